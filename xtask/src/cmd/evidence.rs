//! The hashes of what a run is made of, for its report.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use noonmark_builder::image::Image;
use noonmark_image::build::{INITRD, KERNEL, MANIFEST};
use noonmark_image::hash::Sha256Hex;
use noonmark_lab::evidence::Evidence;
use noonmark_qemu::program::Qemu;

/// Hashes the QEMU that runs and the image that it boots directly.
///
/// # Errors
///
/// A file of them can't be read.
pub fn of_direct_boot(qemu: &Qemu, image: &Image) -> Result<Evidence> {
    let artifact = |name: &str| hash(&image.folder.join(name)).map(Some);
    Ok(Evidence {
        measured_at: Some(Timestamp::now()),
        manifest_sha256: artifact(MANIFEST)?,
        kernel_sha256: artifact(KERNEL)?,
        initrd_sha256: artifact(INITRD)?,
        qemu_sha256: hash(qemu.path()).map(Some)?,
        firmware_sha256: None,
    })
}

fn hash(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Sha256Hex::of(&bytes).to_string())
}
