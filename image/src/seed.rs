//! Seed disks: a NoCloud volume that gives one instance its own name and configuration.
//!
//! The data source finds it by its label (cloud-init's documentation, "NoCloud"); the whole disk
//! is the FAT volume, without a partition table, as `cloud-localds` makes it.

use std::collections::BTreeMap;

use crate::fat::{self, FatError, Volume};
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

/// Makes a seed disk; the same bytes for the same content.
///
/// # Errors
/// If the content is too large for a FAT16 volume.
pub fn write(seed: &Seed<'_>) -> Result<Vec<u8>, FatError> {
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
    fat::write(&Volume {
        label: LABEL,
        date: DEFAULT_SOURCE_DATE,
        files: &files,
    })
}
