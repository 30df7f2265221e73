//! What is wrong with a disk, whichever file system it has.

use std::io;

use thiserror::Error;

/// A disk that can't be read as what it looks like.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// The disk can't be read, or `fatfs` finds its file system damaged.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file system contradicts itself.
    #[error("damaged: {0}")]
    Damaged(String),
    /// Something on it is too large.
    #[error("{what} has {length} bytes; at most {max} are read")]
    TooLarge {
        /// What.
        what: String,
        /// How large it is.
        length: u64,
        /// How large it may be.
        max: usize,
    },
}
