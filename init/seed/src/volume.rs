//! What is on a disk that may be a seed: its label, and the files on it.

mod error;
pub mod fat;
mod file_system;
pub mod iso;
pub mod udf;

use std::io::{Read, Seek};

pub use error::VolumeError;
use noonmark_label::fat::Fat;
use noonmark_label::udf::Udf;

use file_system::FileSystem as _;
use iso::Iso;

/// A labelled file system that a seed can have.
#[derive(Debug)]
pub struct Volume {
    /// Its label, without what it is filled up with.
    pub label: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Fat(Fat),
    Iso(Iso),
    Udf(Udf),
}

/// Tells what is on a disk; none where it is nothing that is known here.
///
/// # Errors
/// If the disk can't be read.
pub fn probe(disk: &mut (impl Read + Seek)) -> Result<Option<Volume>, VolumeError> {
    // Who makes a FAT of a disk overwrites its start, and may leave there what another file system has
    // further on. UDF counts before ISO 9660, which discs that have both may fill with a hint alone.
    if let Some(fat) = noonmark_label::fat::open(disk)? {
        let label = fat.label(disk)?;
        let kind = Kind::Fat(fat);
        return Ok(Some(Volume { label, kind }));
    }
    if let Some(udf) = noonmark_label::udf::open(disk)? {
        let label = udf.label.clone();
        let kind = Kind::Udf(udf);
        return Ok(Some(Volume { label, kind }));
    }
    let Some(volume) = noonmark_label::iso9660::open(disk)? else {
        return Ok(None);
    };
    let label = volume.label.clone();
    let kind = Kind::Iso(Iso::of(disk, &volume)?);
    Ok(Some(Volume { label, kind }))
}

impl Volume {
    /// Whether it has this label of small letters, in them or in capitals; cloud-init takes no mixture.
    #[must_use]
    pub fn is_labelled(&self, label: &str) -> bool {
        self.label == label || self.label == label.to_ascii_uppercase()
    }

    /// The content of the file at this path of names with `/` between them; none where there is none.
    ///
    /// # Errors
    /// If the volume is damaged, or the file longer than `max`.
    pub fn read(
        &self,
        disk: &mut (impl Read + Seek),
        path: &str,
        max: usize,
    ) -> Result<Option<Vec<u8>>, VolumeError> {
        match &self.kind {
            Kind::Fat(fat) => fat.read(disk, path, max),
            Kind::Iso(iso) => iso.read(disk, path, max),
            Kind::Udf(udf) => udf.read(disk, path, max),
        }
    }

    /// The first few names in the root folder, as Linux shows them.
    ///
    /// # Errors
    /// If the volume is damaged.
    pub fn names(&self, disk: &mut (impl Read + Seek)) -> Result<Vec<String>, VolumeError> {
        match &self.kind {
            Kind::Fat(fat) => fat.names(disk),
            Kind::Iso(iso) => iso.names(disk),
            Kind::Udf(udf) => udf.names(disk),
        }
    }
}
