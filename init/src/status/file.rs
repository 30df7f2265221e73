//! The status record as a file, for the guest's own programs: [`STATUS_FILE`].

use std::path::Path;

use noonmark_contract::record::STATUS_FILE;

use crate::boot::runtime_dir::RuntimeDir;

/// The file, where the image wants it.
#[derive(Debug)]
pub struct StatusFile {
    wanted: bool,
    failed: bool,
}

impl StatusFile {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(wanted: bool) -> Self {
        Self {
            wanted,
            failed: false,
        }
    }

    /// Whether there is to be one.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Puts a record in the last one's place. A failure is reported once, and tried again with each
    /// record.
    pub fn write(&mut self, folder: Option<&RuntimeDir>, line: &[u8]) -> Option<String> {
        let folder = folder.filter(|_| self.wanted)?;
        let name = Path::new(STATUS_FILE).file_name()?.to_str()?;
        match folder.replace(name, line) {
            Ok(()) => {
                self.failed = false;
                None
            }
            Err(_) if self.failed => None,
            Err(error) => {
                self.failed = true;
                Some(format!("{STATUS_FILE}: {error}"))
            }
        }
    }
}
