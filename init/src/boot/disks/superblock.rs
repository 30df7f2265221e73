//! What file system a disk has, and its label, as libblkid tells it. Nothing else of a disk is read
//! here; the kernel alone does that, when it mounts it.

use std::io::{self, Read, Seek};

use noonmark_contract::config::system::{DataDisk, FileSystem};
use noonmark_label::{ext4, fat};

/// A file system that a data disk may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Which.
    pub kind: FileSystem,
    /// Its label, without what it is filled up with; empty where it has none.
    pub label: String,
    /// The kernel has found errors in it before, and nobody has checked it since.
    pub has_errors: bool,
}

impl Volume {
    /// Whether this is the label that a `[[mount]]` asks for; FAT's have no case.
    #[must_use]
    pub fn matches_label(&self, disk: &DataDisk) -> bool {
        let wanted = disk.label.as_str();
        match self.kind {
            FileSystem::Ext4 => self.label == wanted,
            FileSystem::Vfat => self.label.eq_ignore_ascii_case(wanted),
        }
    }
}

/// Tells what a disk has; none where it is nothing that is known here.
///
/// # Errors
/// If the disk can't be read.
pub fn identify(disk: &mut (impl Read + Seek)) -> io::Result<Option<Volume>> {
    if let Some(ext4) = ext4::open(disk)? {
        return Ok(Some(Volume {
            kind: FileSystem::Ext4,
            label: ext4.label,
            has_errors: ext4.has_errors,
        }));
    }
    let Some(fat) = fat::open(disk)? else {
        return Ok(None);
    };
    Ok(Some(Volume {
        kind: FileSystem::Vfat,
        label: fat.label(disk)?,
        has_errors: false,
    }))
}
