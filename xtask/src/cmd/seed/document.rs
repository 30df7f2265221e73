//! A document of a seed, as it lies on this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// A file larger than this is no configuration.
const SIZE_MAX: u64 = 16 << 20;

/// Its bytes.
pub fn read(file: &Path) -> Result<Vec<u8>> {
    let size = fs::metadata(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .len();
    if size > SIZE_MAX {
        bail!(
            "{} has {size} bytes; a seed's file has at most {} MiB",
            file.display(),
            SIZE_MAX >> 20
        );
    }
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
