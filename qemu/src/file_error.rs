//! A file of this host that can't be used.

use std::io;
use std::path::{Path, PathBuf};

/// What was done with which file, and why that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was done, as a verb: `read`, `listen on`.
    pub action: &'static str,
    /// The file, folder or socket.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: the error of `action` on `path`.
    pub(crate) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            source,
        }
    }
}
