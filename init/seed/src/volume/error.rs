//! What is wrong with a disk, whichever file system it has.

use std::io;

use thiserror::Error;

/// A disk that can't be read as what it looks like.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// The disk can't be read, or what is on it contradicts itself.
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
    /// A link stands where a file should.
    #[error("{0} is or lies behind a symbolic link; put the file itself there")]
    Link(String),
    /// The volume is of a kind that is not read.
    #[error(
        "a UDF volume with a `{0}` is not read; make one of revision 2.01 or lower as for a hard disk"
    )]
    Udf(String),
}

/// A length that is at most `max`.
pub fn bounded(what: &str, length: u64, max: usize) -> Result<usize, VolumeError> {
    match usize::try_from(length) {
        Ok(length) if length <= max => Ok(length),
        _ => Err(VolumeError::TooLarge {
            what: what.into(),
            length,
            max,
        }),
    }
}
