//! All that is in the initrd of a base image: what nobody asked for is not there.

use std::fs;
use std::path::Path;

use noonmark_contract::config::{self, BootConfig};
use noonmark_contract::testport::PORT;
use noonmark_image::artifact::INITRD;
use noonmark_image::compress;
use noonmark_image::cpio::{self, Kind, Tree};
use noonmark_image::layout::{FAULT_PROGRAM, INIT_PROGRAM};
use noonmark_tests::build_image;

use crate::base_image;

/// Larger than any initrd of ours.
const INITRD_MAX: u64 = 1 << 28;

/// Every entry of a base image but kernel modules. Of these `init` alone is a program: there is no
/// shell, nothing that disturbs the clock, and nothing that reads seeds, sets up a network or asks
/// NTP servers unless the spec asks for it.
const BASE: &[&str] = &[
    "dev",
    "dev/console",
    "dev/null",
    "init",
    "lib",
    "lib/modules",
    "noonmark.json",
    "proc",
    "run",
    "sys",
    "tmp",
];

fn tree(folder: &Path) -> Tree {
    let packed = fs::read(folder.join(INITRD)).expect("an initrd");
    let archive = compress::decompress(&packed, INITRD_MAX).expect("a compressed archive");
    cpio::read(&archive).expect("an archive")
}

fn file<'a>(tree: &'a Tree, path: &str) -> &'a [u8] {
    match &tree[path.trim_start_matches('/')].kind {
        Kind::File(bytes) => bytes,
        other => panic!("{path} is {other:?}"),
    }
}

fn mentions(program: &[u8], word: &[u8]) -> bool {
    program.windows(word.len()).any(|window| window == word)
}

#[test]
fn a_base_image_has_the_files_that_are_listed_here_and_kernel_modules() {
    let tree = tree(base_image());
    let others: Vec<&str> = tree
        .keys()
        .map(String::as_str)
        .filter(|path| !path.starts_with("lib/modules/"))
        .collect();
    assert_eq!(others, BASE);
    let no_modules: Vec<&String> = tree
        .iter()
        .filter(|(path, _)| path.starts_with("lib/modules/"))
        .filter(|(path, entry)| entry.kind != Kind::Directory && !path.ends_with(".ko"))
        .map(|(path, _)| path)
        .collect();
    assert!(no_modules.is_empty(), "no modules: {no_modules:?}");
    let programs: Vec<&String> = tree
        .iter()
        .filter(|(_, entry)| matches!(entry.kind, Kind::File(_)) && entry.permissions & 0o111 != 0)
        .map(|(path, _)| path)
        .collect();
    assert_eq!(programs, ["init"]);
}

#[test]
fn a_base_image_starts_nothing_and_knows_no_test_port() {
    let tree = tree(base_image());
    let told: BootConfig =
        serde_json::from_slice(file(&tree, config::PATH)).expect("a configuration");
    assert!(told.services.is_empty(), "{:?}", told.services);
    assert!(!mentions(file(&tree, INIT_PROGRAM), PORT.as_bytes()));
}

#[test]
fn a_test_image_has_the_fault_program_that_knows_the_test_port() {
    // So the two tests above can fail.
    let folder = tempfile::tempdir().expect("a folder");
    build_image(folder.path(), &["--test"]).expect("a test image");
    let tree = tree(folder.path());
    assert!(mentions(file(&tree, FAULT_PROGRAM), PORT.as_bytes()));
}
