//! What PID 1 sets up beside the clock: the seed, memory's file systems, and data disks.

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

use super::values::{GuestPath, Label, SizeKib};

/// Where the initrd keeps the program that meets foreign disks in PID 1's stead.
pub const SEED_PROGRAM: &str = "/noonmark-seed";

/// `[seed]`: whether one instance may be configured by a seed: a disk, or a hypervisor's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeedConfig {
    /// Whether a seed is looked for at all. Its reader nearly doubles an initrd, so an image has it
    /// only where it asks for it.
    pub enabled: bool,
    /// How long a disk that may still appear is waited for.
    pub wait: Nanos,
    /// Whether CD-ROM drives and SCSI disks are looked at too: their drivers are in the image.
    pub cdrom: bool,
    /// Whether a seed may start programs: `[[service]]`, `runcmd` and `bootcmd`.
    pub programs: bool,
    /// Whether a seed is taken whole or not at all: one of which anything is wrong or not allowed changes
    /// nothing.
    pub strict: bool,
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

/// `[[mount]]`: a disk that its user has formatted, found by its label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataDisk {
    /// The file system's label, as `mkfs.ext4 -L` and `mkfs.vfat -n` write it.
    pub label: Label,
    /// The folder on which it is mounted; made where it is missing.
    pub path: GuestPath,
    /// What it was formatted with.
    #[serde(rename = "type")]
    pub kind: FileSystem,
    /// Whether nothing may be written to it.
    #[serde(default)]
    pub read_only: bool,
    /// Whether programs on it may be run.
    #[serde(default)]
    pub exec: bool,
    /// Whether the guest is of no use without it, so that PID 1 does what `[image] on_failure` says.
    #[serde(default)]
    pub required: bool,
    /// How long a disk that may still appear is waited for.
    pub wait: Nanos,
}

/// A file system that a data disk may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// ext4
    Ext4,
    /// FAT with long names.
    Vfat,
}

impl DataDisk {
    /// How long a disk is waited for where `wait_ms` is left out.
    pub const WAIT: Nanos = Nanos::from_secs(2);
}

impl FileSystem {
    /// What mount(2) and the kernel's module call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
        }
    }
}

impl Default for SeedConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            wait: Nanos::from_secs(2),
            cdrom: false,
            programs: true,
            strict: false,
        }
    }
}
