//! What an image tells its PID 1: the file `/noonmark.json` in the initrd.
//!
//! `image` writes it from `guest.toml`, `init` reads it. Defaults live here and nowhere else.

pub mod network;
pub mod settings;
pub mod system;
pub mod values;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use network::{NetworkConfig, NtpConfig};
use serde::{Deserialize, Serialize};
use system::{DataDisk, SeedConfig, TmpfsConfig};
use values::{SysctlName, SysctlValue};

use crate::agent::FREEZE_LIMIT_S;
use crate::source::Source;
use crate::units::{Nanos, Ppb, Utc};

mod capability;
mod directories;
mod service;
mod users;

pub use capability::{Capability, UnknownCapability};
pub use directories::{RUNTIME, SEARCH_PATH, STATE};
pub use service::{
    ByteSize, OnDisruption, OnStartTimeout, Output, Ready, Restart, Service, ServiceError,
    ServiceSignal, Start, SystemCallFilter,
};
pub use users::{OWN_USERS, assign_users};

/// Where the initrd keeps it.
pub const PATH: &str = "/noonmark.json";

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// Format version: 1.
    pub v: u32,
    /// The guest's host name, at most 64 bytes.
    pub hostname: String,
    /// The image's source date: no right clock is ever before it.
    pub built: Utc,
    /// Kernel modules, in the order in which they must be loaded.
    pub modules: Vec<Module>,
    /// The clock's settings.
    pub clock: ClockConfig,
    /// The status port's settings.
    pub status: StatusConfig,
    /// What ends PID 1's own failure.
    pub on_failure: FailureAction,
    /// The network; none unless asked for.
    #[serde(default)]
    pub network: NetworkConfig,
    /// Time servers; none unless asked for.
    #[serde(default)]
    pub ntp: NtpConfig,
    /// Whether no module can be loaded once those of the list are in (`kernel.modules_disabled`).
    #[serde(default = "yes")]
    pub lock_modules: bool,
    /// Programs that PID 1 starts, in this order.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Whether and how an instance is configured by a seed.
    #[serde(default)]
    pub seed: SeedConfig,
    /// Kernel settings.
    #[serde(default)]
    pub sysctl: BTreeMap<SysctlName, SysctlValue>,
    /// Sizes of the file systems in memory.
    #[serde(default)]
    pub tmpfs: TmpfsConfig,
    /// After how long without a turn of PID 1's loop the machine's watchdog resets it, seconds; none:
    /// there is no watchdog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_timeout_s: Option<u32>,
    /// Data disks, mounted in this order before any service starts.
    #[serde(default)]
    pub mounts: Vec<DataDisk>,
    /// How long the guest may stay frozen for a snapshot, seconds.
    #[serde(default = "default_freeze_limit_s")]
    pub freeze_limit_s: u32,
}

/// One module file of the initrd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// The module's name, with underscores, as in `/proc/modules`.
    pub name: String,
    /// Its path in the initrd; the file is an uncompressed ELF object.
    pub path: String,
}

/// `[clock]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// The ladder, best first. Empty: PID 1 leaves the clock to another program.
    pub sources: Vec<Source>,
    /// An offset from which a clock that the host or somebody in the guest moved is stepped rather than
    /// slewed.
    pub step: Nanos,
    /// An offset forward from which a clock that nobody has moved is stepped; backward it never is.
    pub makestep: Nanos,
    /// The fastest slew: at most 10 %, which is what the kernel can do.
    pub max_slew: Ppb,
    /// A source that has moved by more than this, and not for a pause that the host tells of, is not
    /// followed; none: whatever is confirmed is followed.
    pub panic: Option<Nanos>,
    /// Since boot for so long the RTC is not enough to call the clock synced, as long as a better source
    /// may still answer.
    pub rtc_grace: Nanos,
    /// How often the clock is compared with the reference when nothing else wakes the loop.
    pub watch: Nanos,
    /// Whether the kernel may call its clock synchronized, and then writes the RTC by it.
    pub rtcsync: bool,
    /// TAI minus UTC in seconds, where a PHC of `phc:NAME` counts TAI; 0 where it counts UTC.
    pub phc_tai_offset_s: i32,
}

/// `[status]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatusConfig {
    /// Time between two `status` records.
    pub interval: Nanos,
    /// Whether the guest's own programs find the last record in
    /// [`STATUS_FILE`](crate::record::STATUS_FILE).
    pub file: bool,
    /// Whether they find the time's bound in [`clockbound::PATH`](crate::clockbound::PATH).
    pub clockbound: bool,
}

/// What PID 1 does when it can't go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureAction {
    /// Turn the machine off.
    #[default]
    PowerOff,
    /// Start it again.
    Reboot,
    /// Stop the processors and leave everything as it is, for a look from outside.
    Halt,
}

fn default_freeze_limit_s() -> u32 {
    FREEZE_LIMIT_S
}

fn yes() -> bool {
    true
}

impl Default for ClockConfig {
    fn default() -> Self {
        Self {
            sources: Source::default_ladder(),
            step: Nanos::from_micros(100),
            makestep: Nanos::from_secs(1),
            max_slew: Ppb(100_000_000.0),
            panic: None,
            rtc_grace: Nanos::from_secs(10),
            watch: Nanos::from_millis(20),
            rtcsync: false,
            phc_tai_offset_s: 0,
        }
    }
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self {
            interval: Nanos::from_secs(1),
            file: false,
            clockbound: false,
        }
    }
}
