//! What an image is to be: `guest.toml`, parsed into a [`Spec`] that cannot be wrong.
//!
//! `description` reads the file and those that it extends. [`Spec::parse`] is in `check`: it takes the file's own shape, which is in `raw`, and checks it
//! section by section. Nothing after that has to check again. Which kernel modules a spec makes
//! necessary is in `modules`.

mod check;
mod content;
mod description;
mod entries;
mod modules;
mod mounts;
mod network;
mod packaged;
mod raw;
mod system;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use globset::Glob;
use noonmark_contract::config::network::{NetworkConfig, NtpConfig};
use noonmark_contract::config::system::{DataDisk, SeedConfig, TmpfsConfig};
use noonmark_contract::config::values::{SysctlName, SysctlValue};
use noonmark_contract::config::{ClockConfig, FailureAction, Service, StatusConfig};
use noonmark_contract::units::Utc;
use thiserror::Error;

use crate::compress::Compression;

pub use self::description::{Description, DescriptionFile};

/// The kernel package that is taken where `[kernel]` says nothing.
pub const DEFAULT_KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// 2026-01-01T00:00:00Z, the source date of an image whose spec names none.
pub const DEFAULT_SOURCE_DATE: Utc = Utc(1_767_225_600 * NANOS_PER_SECOND);

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Everything that `guest.toml` says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `[image]`
    pub image: ImageSpec,
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
    /// `[[package]]`, `[[program]]`, `[[tree]]`, `[[symlink]]` and `[[dir]]`.
    pub content: ContentSpec,
    /// `[[service]]`, in the file's order.
    pub services: Vec<Service>,
    /// `[seed]`
    pub seed: SeedConfig,
    /// `[sysctl]`
    pub sysctl: BTreeMap<SysctlName, SysctlValue>,
    /// `[tmpfs]`
    pub tmpfs: TmpfsConfig,
    /// `[watchdog]`, where it has a time.
    pub watchdog: Option<WatchdogSpec>,
    /// `[agent]`
    pub agent: AgentSpec,
    /// `[[mount]]`, in the file's order.
    pub mounts: Vec<DataDisk>,
    /// `[initrd]`
    pub initrd: InitrdSpec,
    /// `[budget]`
    pub budget: Budget,
    /// `[vm]`
    pub vm: VmSpec,
}

/// `[agent]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSpec {
    /// Whether the image has the guest agent.
    pub enabled: bool,
    /// The commands that it carries out, of [`COMMANDS`](noonmark_contract::agent::COMMANDS).
    pub allow: Vec<String>,
    /// How long the guest may stay frozen for a snapshot, seconds.
    pub freeze_limit_s: u32,
}

/// `[watchdog]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogSpec {
    /// After how long without a turn of PID 1's loop the machine is reset, seconds.
    pub timeout_s: u32,
    /// The kernel's module for it.
    pub driver: String,
}

/// `[image]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSpec {
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

impl ImageSpec {
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

/// What goes into the image beside single files, each kind in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentSpec {
    /// `[[package]]`
    pub packages: Vec<PackageSpec>,
    /// `[[program]]`
    pub programs: Vec<ProgramSpec>,
    /// `[[tree]]`
    pub trees: Vec<TreeSpec>,
    /// `[[symlink]]`
    pub symlinks: Vec<SymlinkSpec>,
    /// `[[dir]]`
    pub dirs: Vec<DirSpec>,
}

impl ContentSpec {
    /// Every package that is named.
    #[must_use]
    pub fn wanted_packages(&self) -> BTreeSet<&WantedPackage> {
        let of_programs = self
            .programs
            .iter()
            .filter_map(|program| match &program.source {
                ProgramSource::Package(wanted) => Some(wanted),
                ProgramSource::File { .. } => None,
            });
        let packages = self.packages.iter().map(|package| &package.wanted);
        packages.chain(of_programs).collect()
    }
}

/// A distribution's package, which comes with all that it depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WantedPackage {
    /// Its name.
    pub name: String,
    /// The suite it is taken from; none is the machine's own.
    pub suite: Option<String>,
}

/// `[[package]]`: a package whose files go into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSpec {
    /// Which.
    pub wanted: WantedPackage,
    /// Patterns of what is taken, by its path in the root; none take all.
    pub include: Vec<Glob>,
    /// Patterns of what is left out, whatever `include` says.
    pub exclude: Vec<Glob>,
}

/// `[[program]]`: a program that goes into the image with the libraries that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramSpec {
    /// Its absolute path in the guest.
    pub path: String,
    /// Where it and its libraries are.
    pub source: ProgramSource,
}

/// Where a program comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramSource {
    /// This machine; relative paths are relative to `guest.toml`'s folder.
    File {
        /// The program.
        file: PathBuf,
        /// The folder that is the root in which its libraries are looked for.
        root: PathBuf,
    },
    /// A package, in which it has the path that it has in the guest.
    Package(WantedPackage),
}

/// `[[tree]]`: a folder of the host that goes into the image with all that is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeSpec {
    /// The folder's absolute path in the guest; `/` is the root itself.
    pub path: String,
    /// The folder; a relative path is relative to `guest.toml`'s folder.
    pub source: PathBuf,
    /// Patterns of what is taken, by its path below `source`; none take all.
    pub include: Vec<Glob>,
    /// Patterns of what is left out, whatever `include` says.
    pub exclude: Vec<Glob>,
    /// Owner of all of it.
    pub uid: u32,
    /// Group of all of it.
    pub gid: u32,
}

/// `[[symlink]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymlinkSpec {
    /// Its absolute path in the guest.
    pub path: String,
    /// What it leads to, as it is written into the link.
    pub target: String,
}

/// `[[dir]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirSpec {
    /// Its absolute path in the guest.
    pub path: String,
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
}
