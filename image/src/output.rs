//! Puts artifacts into a folder, each whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;

use crate::artifact::Artifact;

/// What the names of unfinished files begin with.
const TEMPORARY: &str = ".noonmark-";

/// A folder or file that can't be written.
#[derive(Debug, Error)]
#[error("can't write {}: {source}{}", .path.display(), way_out(.source))]
pub struct OutputError {
    /// The folder or file.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// Writes every artifact into `folder`, which is made where it isn't there. Each file appears
/// under its name only when it is whole and on disk; after an error those not yet written are as
/// they were, and nothing half-written is left.
///
/// # Errors
/// The path that can't be written, and why.
pub fn write_all(folder: &Path, artifacts: &[Artifact]) -> Result<(), OutputError> {
    fs::create_dir_all(folder).map_err(|source| OutputError {
        path: folder.into(),
        source,
    })?;
    // First all contents, then all names: a disk that fills up changes no artifact.
    let mut whole = Vec::new();
    for artifact in artifacts {
        let path = folder.join(artifact.name);
        let temporary = write_temporary(folder, &artifact.bytes).map_err(|source| OutputError {
            path: path.clone(),
            source,
        })?;
        whole.push((path, temporary));
    }
    for (path, temporary) in whole {
        temporary.persist(&path).map_err(|e| OutputError {
            path,
            source: e.error,
        })?;
    }
    Ok(())
}

/// Writes one file of any name, whole or not at all.
///
/// # Errors
/// The path that can't be written, and why.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let write = || -> io::Result<()> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        write_temporary(folder, bytes)?
            .persist(path)
            .map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|source| OutputError {
        path: path.into(),
        source,
    })
}

/// Removes what a writer that was ended by a signal left in `folder`. No other writer may be at
/// work there.
pub fn remove_unfinished(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(TEMPORARY.as_bytes())
        {
            // What can't be removed is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file that is removed again unless it gets its name.
fn write_temporary(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask takes from this what it takes from any new file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    Ok(file)
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, or choose another folder"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; choose a folder that you may write to"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; a file is where a folder is needed"
        }
        _ => "",
    }
}
