//! What is on a disk that may be a seed: its label, and the files of its root folder.

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

use super::{fat, iso};

/// A disk that can't be read as what it looks like.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// The disk, or the file system on it, says no.
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

/// A labelled file system that a seed can have.
#[derive(Debug)]
pub struct Volume {
    /// Its label, without the blanks at its end.
    pub label: String,
    /// What ISO 9660 needs to be read; none where it is FAT.
    iso: Option<iso::Volume>,
}

/// Tells what is on a disk; none where it is nothing that is known here.
///
/// # Errors
/// If the disk can't be read.
pub fn probe(disk: &mut (impl Read + Seek)) -> Result<Option<Volume>, VolumeError> {
    if let Some(found) = iso::open(disk)? {
        return Ok(Some(Volume {
            label: found.label.clone(),
            iso: Some(found),
        }));
    }
    let mut boot = [0; 512];
    disk.seek(SeekFrom::Start(0))?;
    if disk.read_exact(&mut boot).is_err() || !is_fat(&boot) {
        return Ok(None);
    }
    Ok(Some(Volume {
        label: fat::label(disk, &boot)?,
        iso: None,
    }))
}

impl Volume {
    /// The content of the root folder's file of this name; none where there is no such file.
    ///
    /// # Errors
    /// If the volume is damaged, or the file longer than `max`.
    pub fn read(
        &self,
        disk: &mut (impl Read + Seek),
        name: &str,
        max: usize,
    ) -> Result<Option<Vec<u8>>, VolumeError> {
        match &self.iso {
            Some(iso) => iso.read(disk, name, max),
            None => fat::read(disk, name, max),
        }
    }
}

/// A FAT's boot sector: a jump, a sane sector size, one or two FATs, and the mark at its end. A
/// partition table has the mark too, but hardly the rest.
fn is_fat(boot: &[u8; 512]) -> bool {
    let sector_size = u16::from_le_bytes([boot[11], boot[12]]);
    let jump = boot[0] == 0xe9 || (boot[0] == 0xeb && boot[2] == 0x90);
    jump && matches!(sector_size, 512 | 1024 | 2048 | 4096)
        && boot[13].is_power_of_two()
        && matches!(boot[16], 1 | 2)
        && boot[510..] == [0x55, 0xaa]
}
