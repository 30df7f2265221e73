//! Seed disks: a NoCloud volume that gives one instance its own name and configuration.
//!
//! The data source finds it by its label (cloud-init's documentation, "NoCloud"); the whole disk
//! is the FAT volume, without a partition table, as `cloud-localds` makes it.

use std::collections::BTreeMap;

use crate::fat::{self, FatError, Volume};
use crate::spec::DEFAULT_SOURCE_DATE;

/// The label that NoCloud looks for.
pub const LABEL: &str = "CIDATA";

/// What a seed holds.
#[derive(Clone, Copy, Debug)]
pub struct Seed<'a> {
    /// `user-data`: `#cloud-config` or `#noonmark`.
    pub user_data: &'a [u8],
    /// `meta-data`: the instance's id and host name, in YAML.
    pub meta_data: &'a [u8],
    /// `network-config`, where there is one.
    pub network_config: Option<&'a [u8]>,
}

/// Makes a seed disk; the same bytes for the same content.
///
/// # Errors
/// If the content is too large for a FAT16 volume.
pub fn write(seed: &Seed<'_>) -> Result<Vec<u8>, FatError> {
    let mut files = BTreeMap::from([
        ("user-data".to_string(), seed.user_data),
        ("meta-data".to_string(), seed.meta_data),
    ]);
    if let Some(network_config) = seed.network_config {
        files.insert("network-config".into(), network_config);
    }
    fat::write(&Volume {
        label: LABEL,
        date: DEFAULT_SOURCE_DATE,
        files: &files,
    })
}
