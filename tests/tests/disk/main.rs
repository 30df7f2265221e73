//! What noonmark writes, read by programs that owe nothing to its code: partitioners, file system
//! checkers, binutils and cpio. And what it reads, read by cloud-init.
//!
//! A program that isn't installed is listed as not run, with the package that has it.

mod compare;
mod content;
mod formats;
mod image;
mod oracle;
mod pinned;
mod rewriting;
mod seed;
mod tool;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use noonmark_tests::{build_image, test_folder};

/// The folder of the base image that guest.toml describes, built once.
fn base_image() -> &'static Path {
    static BASE: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = test_folder("base").expect("a writable checkout");
        build_image(&folder, &[]).expect("the base image");
        folder
    });
    &BASE
}
