//! What an image on disk was made of, so that it is made anew only where that has changed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use noonmark_image::deb::PackageId;
use noonmark_image::hash::Sha256Hex;
use serde::{Deserialize, Serialize};

/// The file beside the artifacts that tells what they were made of.
pub(crate) const STAMP: &str = ".stamp.json";

/// The content of [`STAMP`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stamp {
    /// Of all that they are made of.
    pub fingerprint: Sha256Hex,
    /// Where people find them, below the workspace's state.
    pub place: PathBuf,
    /// Name and size of each.
    pub artifacts: Vec<(String, u64)>,
    /// The packages of the peer's program that is in it, where it is a peer's.
    pub packages: Vec<PackageId>,
}

impl Stamp {
    /// That of a folder; none where there is none that can be read.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(STAMP)).ok()?).ok()
    }
}

/// Tells this build of xtask, and so of the code that makes images, from another.
pub(crate) fn builder_identity() -> String {
    env::current_exe()
        .and_then(fs::metadata)
        .and_then(|metadata| Ok((metadata.len(), metadata.modified()?)))
        .map(|(length, modified)| {
            let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{length} {}", modified.as_nanos())
        })
        // Where this program's file can't be read, every image counts as stale.
        .unwrap_or_else(|_| format!("{:?}", std::time::Instant::now()))
}

/// The artifacts in the folder, if they are those of this fingerprint.
pub(crate) fn up_to_date(folder: &Path, fingerprint: Sha256Hex) -> Option<Vec<(String, u64)>> {
    let stamp = Stamp::read(folder)?;
    let whole = stamp.artifacts.iter().all(|(name, size)| {
        fs::metadata(folder.join(name)).is_ok_and(|metadata| metadata.len() == *size)
    });
    (whole && stamp.fingerprint == fingerprint).then_some(stamp.artifacts)
}
