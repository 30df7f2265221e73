//! What exactly was run: by these hashes two reports are known to be of the same things.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// When and with which files an experiment was done; none of what nobody told. Each hash is a
/// SHA-256 in lower-case hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When the experiment began, by the host's clock.
    pub measured_at: Option<Timestamp>,
    /// Of the image's `manifest.json`, which names every input and output of its build.
    pub manifest_sha256: Option<String>,
    /// Of the guest's kernel.
    pub kernel_sha256: Option<String>,
    /// Of the guest's initrd.
    pub initrd_sha256: Option<String>,
    /// Of the QEMU program.
    pub qemu_sha256: Option<String>,
    /// Of the UEFI firmware, where the guest was booted by it.
    pub firmware_sha256: Option<String>,
}

impl Evidence {
    /// Its hashes with what they are of, in a fixed order; those that nobody told are left out.
    pub fn hashes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("image manifest", &self.manifest_sha256),
            ("kernel", &self.kernel_sha256),
            ("initrd", &self.initrd_sha256),
            ("QEMU", &self.qemu_sha256),
            ("firmware", &self.firmware_sha256),
        ]
        .into_iter()
        .filter_map(|(of, hash)| Some((of, hash.as_deref()?)))
    }
}
