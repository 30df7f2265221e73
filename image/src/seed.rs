//! Seed disks: a NoCloud volume that gives one instance its own name and configuration.
//!
//! The data source finds it by its label (cloud-init's documentation, "NoCloud"); the whole disk
//! is the volume, without a partition table, as `cloud-localds` makes it.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::fat::{self, FatError, Volume};
use crate::iso::{self, IsoError};
use crate::spec::DEFAULT_SOURCE_DATE;

/// The label that NoCloud looks for.
pub const LABEL: &str = "CIDATA";

/// The names of the files of a [`Seed`], in its order.
pub const FILES: [&str; 4] = ["user-data", "meta-data", "network-config", "vendor-data"];

/// What a seed holds.
#[derive(Clone, Copy, Debug)]
pub struct Seed<'a> {
    /// `user-data`: `#cloud-config` or `#noonmark`.
    pub user_data: &'a [u8],
    /// `meta-data`: the instance's id and host name, in YAML.
    pub meta_data: &'a [u8],
    /// `network-config`, where there is one.
    pub network_config: Option<&'a [u8]>,
    /// `vendor-data`, where there is one.
    pub vendor_data: Option<&'a [u8]>,
}

/// The file system of a seed disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// FAT16, for a disk.
    Fat,
    /// ISO 9660 with Joliet's names, for a CD-ROM drive too.
    Iso,
}

/// A seed disk that can't be made.
#[derive(Debug, Error)]
pub enum SeedError {
    /// As FAT.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// As ISO 9660.
    #[error(transparent)]
    Iso(#[from] IsoError),
}

/// Makes a seed disk; the same bytes for the same content.
///
/// # Errors
/// If the content is too large for a volume of this format.
pub fn write(seed: &Seed<'_>, format: Format) -> Result<Vec<u8>, SeedError> {
    let contents = [
        Some(seed.user_data),
        Some(seed.meta_data),
        seed.network_config,
        seed.vendor_data,
    ];
    let files: BTreeMap<String, &[u8]> = FILES
        .into_iter()
        .zip(contents)
        .filter_map(|(name, content)| Some((name.to_owned(), content?)))
        .collect();
    let volume = Volume {
        label: LABEL,
        date: DEFAULT_SOURCE_DATE,
        files: &files,
    };
    Ok(match format {
        Format::Fat => fat::write(&volume)?,
        Format::Iso => iso::write(&volume)?,
    })
}
