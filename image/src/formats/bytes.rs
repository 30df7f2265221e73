//! What all formats share: their errors, and what they do with runs of bytes.

use thiserror::Error;

use crate::disk::DiskError;

/// A disk that has no such format.
#[derive(Debug, Error)]
pub enum FormatError {
    /// The disk is no whole number of the format's units.
    #[error("a disk of {bytes} bytes is no whole number of {unit}")]
    Unaligned {
        /// The disk's length.
        bytes: usize,
        /// What it should be a multiple of.
        unit: &'static str,
    },
    /// The disk can't be read, or can't be made larger.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The content can't be compressed.
    #[error("can't compress it: {0}")]
    Compress(#[from] std::io::Error),
}

/// Whether a guest that reads nothing of this reads the same.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Each byte is as the one before it; which compares memory with memory.
    match bytes {
        [] => true,
        [first, rest @ ..] => *first == 0 && *rest == bytes[..rest.len()],
    }
}

/// The disk's length, if it is a whole number of `unit` bytes.
pub fn whole(disk: &[u8], unit: usize, name: &'static str) -> Result<u64, FormatError> {
    if disk.is_empty() || !disk.len().is_multiple_of(unit) {
        return Err(FormatError::Unaligned {
            bytes: disk.len(),
            unit: name,
        });
    }
    Ok(disk.len() as u64)
}

/// Fills a file up to a whole number of `unit` bytes.
pub fn pad(file: &mut Vec<u8>, unit: usize) {
    file.resize(file.len().next_multiple_of(unit), 0);
}
