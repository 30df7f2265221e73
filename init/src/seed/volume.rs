//! What is on a disk: the kind of its file system, its label, and the files of its root folder.

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

use super::verdict::VolumeKind;
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

/// A labelled file system.
#[derive(Debug)]
pub struct Volume {
    /// What it is.
    pub kind: VolumeKind,
    /// Its label, without the blanks at its end.
    pub label: String,
    iso: Option<iso::Volume>,
}

/// Tells what is on a disk; none where it is nothing that is known here.
///
/// # Errors
/// If the disk can't be read.
pub fn probe(disk: &mut (impl Read + Seek)) -> Result<Option<Volume>, VolumeError> {
    let volume = |kind, label| Volume {
        kind,
        label,
        iso: None,
    };
    if let Some(found) = iso::open(disk)? {
        return Ok(Some(Volume {
            kind: VolumeKind::Iso9660,
            label: found.label.clone(),
            iso: Some(found),
        }));
    }
    let mut start = [0; 2048];
    disk.seek(SeekFrom::Start(0))?;
    if disk.read_exact(&mut start).is_err() {
        return Ok(None);
    }
    if let Some(label) = ext_label(&start) {
        return Ok(Some(volume(VolumeKind::Ext, label)));
    }
    let mut boot = [0; 512];
    boot.copy_from_slice(&start[..512]);
    if is_fat(&boot) {
        return Ok(Some(volume(VolumeKind::Fat, fat::label(disk, &boot)?)));
    }
    Ok(None)
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
        match (&self.iso, self.kind) {
            (Some(iso), _) => iso.read(disk, name, max),
            (None, VolumeKind::Fat) => fat::read(disk, name, max),
            (None, VolumeKind::Ext | VolumeKind::Iso9660) => Ok(None),
        }
    }
}

/// The label of an ext2, ext3 or ext4 (fs/ext4/ext4.h, `struct ext4_super_block`): the superblock
/// is at byte 1024, its magic number at 56 in it, the label at 120.
fn ext_label(start: &[u8; 2048]) -> Option<String> {
    let superblock = &start[1024..];
    let label = superblock[120..136].split(|byte| *byte == 0).next()?;
    (superblock[56..58] == [0x53, 0xef]).then(|| String::from_utf8_lossy(label).into_owned())
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
