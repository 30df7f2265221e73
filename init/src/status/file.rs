//! The status record as a file, for the guest's own programs: [`STATUS_FILE`].

use std::fs;
use std::io;
use std::path::Path;

use noonmark_contract::record::STATUS_FILE;

/// Where the next record is written before it takes the last one's place.
const UNFINISHED: &str = "/run/noonmark/.status.json";

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

    /// Puts a record in the last one's place, whole, so that nobody reads half of it. A failure is
    /// reported once, and tried again with each record.
    pub fn write(&mut self, line: &[u8]) -> Option<String> {
        if !self.wanted {
            return None;
        }
        match replace(Path::new(UNFINISHED), Path::new(STATUS_FILE), line) {
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

fn replace(unfinished: &Path, whole: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(unfinished, bytes)?;
    fs::rename(unfinished, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_record_takes_the_last_ones_place() {
        let folder = std::env::temp_dir().join(format!("noonmark-status-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (unfinished, whole) = (folder.join("new"), folder.join("whole"));
        replace(&unfinished, &whole, b"a longer first record\n").unwrap();
        replace(&unfinished, &whole, b"second\n").unwrap();
        let read = fs::read(&whole).unwrap();
        let left = unfinished.exists();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((read.as_slice(), left), (&b"second\n"[..], false));
    }

    #[test]
    fn where_nobody_wants_it_nothing_is_written_and_nothing_fails() {
        assert_eq!(StatusFile::new(false).write(b"{}\n"), None);
    }
}
