//! What an image is to be: `guest.toml`, parsed into a [`Spec`] that cannot be wrong.
//!
//! The file's own shape is in `raw`, the checks that make a `Spec` of it are in `check`; nothing
//! after them has to check again.

mod check;
mod entries;
mod mounts;
mod network;
mod raw;
mod system;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use noonmark_contract::config::network::{NetworkConfig, NtpConfig};
use noonmark_contract::config::system::{DataDisk, FileSystem, SeedConfig, TmpfsConfig};
use noonmark_contract::config::values::{SysctlName, SysctlValue};
use noonmark_contract::config::{ClockConfig, FailureAction, Service, StatusConfig};
use noonmark_contract::units::Utc;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::modules::Wanted;
use crate::text::{Place, TextError};

/// The kernel package that is taken where `[kernel]` says nothing.
pub const DEFAULT_KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// 2026-01-01T00:00:00Z, the source date of an image whose spec names none.
pub const DEFAULT_SOURCE_DATE: Utc = Utc(1_767_225_600 * NANOS_PER_SECOND);

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Everything that `guest.toml` says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `[image]`
    pub image: Image,
    /// `[kernel]`
    pub kernel: KernelSpec,
    /// `[modules]`
    pub modules: ModulesSpec,
    /// `[clock]`
    pub clock: ClockConfig,
    /// `[status]`
    pub status: StatusConfig,
    /// `[network]`
    pub network: NetworkConfig,
    /// `[ntp]`
    pub ntp: NtpConfig,
    /// `[[file]]`, in the file's order.
    pub files: Vec<FileSpec>,
    /// `[[service]]`, in the file's order.
    pub services: Vec<Service>,
    /// `[seed]`
    pub seed: SeedConfig,
    /// `[sysctl]`
    pub sysctl: BTreeMap<SysctlName, SysctlValue>,
    /// `[tmpfs]`
    pub tmpfs: TmpfsConfig,
    /// `[[mount]]`, in the file's order.
    pub mounts: Vec<DataDisk>,
    /// `[initrd]`
    pub initrd: InitrdSpec,
    /// `[budget]`
    pub budget: Budget,
    /// `[vm]`
    pub vm: VmSpec,
}

/// `[image]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What the image is called: 1 to 36 of `a-z`, `0-9`, `-`.
    pub name: String,
    /// The guest's host name until a seed gives another: RFC 1123, at most 64 bytes.
    pub hostname: String,
    /// The label of the EFI system partition: 1 to 11 of `A-Z`, `0-9`, `-`, `_`.
    pub label: String,
    /// The date in every file system and archive of the image; whole seconds, 1980 to 2100.
    pub source_date: Utc,
    /// What PID 1 does when it can't go on.
    pub on_failure: FailureAction,
}

impl Image {
    /// The source date in seconds since 1970; it fits the 32 bits of newc and PE.
    #[must_use]
    pub fn source_date_seconds(&self) -> u32 {
        u32::try_from(self.source_date.0 / NANOS_PER_SECOND).unwrap_or(u32::MAX)
    }
}

/// `[kernel]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSpec {
    /// Where the kernel comes from.
    pub source: KernelSource,
    /// What is appended to the kernel command line; printable ASCII.
    pub cmdline: String,
}

/// A distribution's package, or files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSource {
    /// The newest of a distribution's package.
    Package {
        /// The package, real or a metapackage.
        name: String,
        /// The suite it is taken from; none is the machine's own choice.
        suite: Option<String>,
    },
    /// Files of the host; relative paths are relative to `guest.toml`'s folder.
    Files {
        /// A bzImage.
        image: PathBuf,
        /// The folder with `kernel/`, `modules.builtin`, that is `/lib/modules/RELEASE`.
        modules: PathBuf,
    },
}

/// `[modules]`: kernel modules beyond those that noonmark itself needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModulesSpec {
    /// Modules that must be there, else the build fails; underscores, as in `/proc/modules`.
    pub load: Vec<String>,
    /// Modules that are taken where the kernel has them.
    pub optional: Vec<String>,
    /// Whether no module can be loaded any more once these are in.
    pub lock: bool,
}

/// `[[file]]`: a file of the host that goes into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Its absolute path in the guest, without `.`, `..` or empty parts.
    pub path: String,
    /// Where its content is; a relative path is relative to `guest.toml`'s folder.
    pub source: PathBuf,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `[initrd]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InitrdSpec {
    /// How it is compressed.
    pub compression: Compression,
}

/// How an initrd is compressed; the kernel must be able to read it.
///
/// The default is chosen by measurement: the initrd of a base image with Debian's kernel 6.1, its
/// size, and how many instructions the kernel takes to unpack it (QEMU's `-icount shift=0`, where
/// the whole way to PID 1 is 1.6 thousand million).
///
/// | | KiB | instructions, million |
/// |---|---|---|
/// | none | 1020 | 0 |
/// | gzip | 448 | 39 |
/// | zstd | 392 | 54 |
/// | xz | 365 | 165 |
///
/// Of those that halve it gzip boots soonest, and every kernel reads it; what the others save is
/// less than half a per cent of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// `gzip -9`
    #[default]
    Gzip,
    /// `zstd -19`
    Zstd,
    /// `xz -6 --check=crc32`
    Xz,
}

/// `[budget]`: a build over one of these is an error. None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Size of `disk.img` in MiB.
    pub disk_mib: Option<u32>,
    /// Size of the initrd in KiB.
    pub initrd_kib: Option<u32>,
    /// Size of PID 1's program in KiB.
    pub init_kib: Option<u32>,
}

/// `[vm]`: how the image is run where the command line says nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmSpec {
    /// Virtual processors, 1 to 255.
    pub vcpus: u32,
    /// Memory in MiB, 128 to 1048576.
    pub memory_mib: u32,
}

/// A `[[file]]` with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedFile {
    /// What the spec says of it.
    pub spec: FileSpec,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A `[[file]]` whose source can't be read.
#[derive(Debug, Error)]
#[error("file `{path}` of the image: can't read its source {}: {source}", .source_path.display())]
pub struct LoadError {
    /// Its path in the guest.
    pub path: String,
    /// Its path on the host.
    pub source_path: PathBuf,
    /// What the system says.
    pub source: std::io::Error,
}

impl Default for VmSpec {
    fn default() -> Self {
        Self {
            vcpus: 2,
            memory_mib: 256,
        }
    }
}

impl Spec {
    /// Parses `guest.toml`. `file` is only for messages.
    ///
    /// # Errors
    /// What is wrong, with file, line, column and key.
    pub fn parse(text: &str, file: &Path) -> Result<Self, TextError> {
        let place = Place { text, file };
        check::check(place.parse()?, &place)
    }

    /// Reads the `[[file]]` sources; relative ones are relative to `base`, `guest.toml`'s folder.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn load_files(&self, base: &Path) -> Result<Vec<LoadedFile>, LoadError> {
        self.files
            .iter()
            .map(|file| {
                let source = base.join(&file.source);
                std::fs::read(&source)
                    .map(|bytes| LoadedFile {
                        spec: file.clone(),
                        bytes,
                    })
                    .map_err(|error| LoadError {
                        path: file.path.clone(),
                        source_path: source,
                        source: error,
                    })
            })
            .collect()
    }

    /// Whether the image has a network, and the program that sets it up.
    #[must_use]
    pub fn wants_network(&self) -> bool {
        !self.network.interface.is_empty()
    }

    /// Whether the image has the NTP client.
    #[must_use]
    pub fn wants_ntp(&self) -> bool {
        !self.ntp.servers.is_empty()
    }

    /// The kernel modules that the image should have, those of the clock's best source first.
    #[must_use]
    pub fn wanted_modules(&self) -> Vec<Wanted> {
        let wanted = |name: &str, needed_by: String, key: Option<&str>, required| Wanted {
            name: name.into(),
            needed_by,
            key: key.map(Into::into),
            required,
        };
        let mut list = Vec::new();
        for source in &self.clock.sources {
            let Some(driver) = source.driver() else {
                continue;
            };
            let needed_by = format!("the clock source `{source}`");
            let key = Some("clock.sources");
            list.push(wanted(driver.module, needed_by, key, driver.is_required));
        }
        // Status, time and test ports, and what they are plugged into.
        for name in ["virtio_pci", "virtio_console"] {
            list.push(wanted(name, "the status port".into(), None, true));
        }
        // A kernel that has it built in needs no module; without ACPI there is no button.
        list.push(wanted("button", "the power button".into(), None, false));
        if self.seed.enabled {
            // A kernel without the driver has no seeds.
            let needed_by = "the seed disk".to_string();
            list.push(wanted("virtio_blk", needed_by, Some("seed.enabled"), false));
        }
        for disk in &self.mounts {
            let label = disk.label.as_str();
            let needed_by = || format!("the data disk `{label}`");
            list.push(wanted("virtio_blk", needed_by(), Some("mount"), true));
            if disk.kind == FileSystem::Vfat {
                // Its default character sets, which vfat asks for by name when it is mounted.
                for name in ["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"] {
                    list.push(wanted(name, needed_by(), Some("mount.type"), false));
                }
            }
            let name = disk.kind.name();
            list.push(wanted(name, needed_by(), Some("mount.type"), true));
        }
        if self.seed.enabled && self.seed.cdrom {
            // The buses on which hypervisors put a CD-ROM drive, as far as the kernel knows them.
            for name in ["virtio_scsi", "ata_piix", "ahci", "sd_mod", "sr_mod"] {
                let needed_by = "the seed's CD-ROM drive".to_string();
                list.push(wanted(name, needed_by, Some("seed.cdrom"), false));
            }
        }
        if self.wants_network() {
            let needed_by = "the network".to_string();
            list.push(wanted("virtio_net", needed_by, Some("network"), true));
        }
        let ModulesSpec { load, optional, .. } = &self.modules;
        for (names, key, required) in [
            (load, "modules.load", true),
            (optional, "modules.optional", false),
        ] {
            let listed = |name: &String| wanted(name, format!("`{key}`"), Some(key), required);
            list.extend(names.iter().map(listed));
        }
        list
    }
}
