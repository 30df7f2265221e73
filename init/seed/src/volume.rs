//! What is on a disk that may be a seed: its label, and the files of its root folder.

mod error;
pub mod fat;
pub mod iso;

use std::io::{Read, Seek};

pub use error::VolumeError;

/// A labelled file system that a seed can have.
#[derive(Debug)]
pub struct Volume {
    /// Its label, without the blanks at its end.
    pub label: String,
    /// What ISO 9660 needs to be read; none where it is FAT.
    iso: Option<iso::Roots>,
}

/// Tells what is on a disk; none where it is nothing that is known here.
///
/// # Errors
/// If the disk can't be read.
pub fn probe(disk: &mut (impl Read + Seek)) -> Result<Option<Volume>, VolumeError> {
    if let Some((label, roots)) = iso::open(disk)? {
        let iso = Some(roots);
        return Ok(Some(Volume { label, iso }));
    }
    Ok(fat::label(disk)?.map(|label| Volume { label, iso: None }))
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
