//! What PID 1 sets up beside the clock: the seed, and memory's file systems.

use serde::{Deserialize, Serialize};

use super::values::SizeKib;
use crate::units::Nanos;

/// Where the initrd keeps the program that meets foreign disks in PID 1's stead.
pub const SEED_PROGRAM: &str = "/noonmark-seed";

/// `[seed]`: whether one instance may be configured by a NoCloud disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeedConfig {
    /// Whether a seed is looked for at all. Its reader nearly doubles an initrd, so an image has it
    /// only where it asks for it.
    pub enabled: bool,
    /// How long a disk that may still appear is waited for.
    pub wait: Nanos,
    /// Whether a seed may start programs: `[[service]]`, `runcmd` and `bootcmd`.
    pub programs: bool,
}

/// `[tmpfs]`: how much PID 1's file systems in memory may hold; half of the memory where a key is
/// left out, which is the kernel's own default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TmpfsConfig {
    /// `/run`
    pub run_kib: Option<SizeKib>,
    /// `/tmp`
    pub tmp_kib: Option<SizeKib>,
}

impl Default for SeedConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            wait: Nanos::from_secs(2),
            programs: true,
        }
    }
}
