//! Records of the status port `noonmark.status`: JSON Lines, one object a line, `"v": 1`.
//!
//! PID 1 writes [`Record`]s; a host may write [`Command`]s. Readers must ignore keys they don't
//! know. Every quantity's unit is its key's last word.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::host_clock::HostClock;
use crate::sample::{Method, Source};
use crate::units::{Nanos, Ppb, Utc};

mod command;
mod disk;
mod freeze;
mod instance;
mod service;
mod words;

pub use command::{Command, Shutdown, Topic};
pub use disk::{DiskState, DiskStatus};
pub use freeze::ThawedBy;
pub use instance::{Effective, Origin, Seed, SeedState};
pub use service::{ServiceState, ServiceStatus};

/// The status port's name on the virtio-serial bus.
pub const PORT: &str = "noonmark.status";

/// Where the guest's own programs find the last `status` record, if `[status] file` is set. PID 1
/// replaces it whole at each `[status] interval`, and at each change of state or source.
///
/// `bound_ns` holds at `time_ns`. A program that reads it later adds 500 ppm of the time since,
/// which is the most that the kernel lets a clock be slewed by, and what it adds to its own
/// `maxerror` (kernel/time/ntp.c); adjtimex(2) tells that one to programs in C.
pub const STATUS_FILE: &str = "/run/noonmark/status.json";

/// The version that every record carries.
pub const VERSION: u32 = 1;

/// One line from PID 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "one record lives at a time, on its way to a line of JSON"
)]
pub enum Record {
    /// The whole state, every interval and on request.
    Status(Status),
    /// Something changed.
    Event(EventRecord),
}

/// Where the clock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing has been believed yet.
    Unsynced,
    /// The clock follows its source.
    Synced,
    /// A disruption was seen and is not repaired yet.
    Disrupted,
    /// All sources are lost; the last frequency is kept and the bound grows.
    Holdover,
}

/// Why nothing is known of the clock's error against UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UtcUnknown {
    /// The clock has not been right yet.
    ClockUnsynced,
    /// Nobody keeps the host's clock, as its kernel says itself.
    HostUnsynced,
    /// The host says nothing of its clock: it serves no time channel, or an older one, and no VMClock.
    HostSilent,
    /// The source, an RTC or a PHC that somebody else keeps, doesn't say how right it is.
    SourceSilent,
}

/// The `status` record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Format version.
    pub v: u32,
    /// Counts all records of this boot from 1; a gap means that records were dropped.
    pub seq: u64,
    /// The guest's `CLOCK_REALTIME` when the record was made.
    pub time_ns: Utc,
    /// `CLOCK_BOOTTIME` then.
    pub uptime_ns: Nanos,
    /// The clock's state.
    pub state: State,
    /// The source followed now.
    pub source: Option<Source>,
    /// How it is read.
    pub method: Option<Method>,
    /// Last offset, reference minus clock.
    pub offset_ns: Nanos,
    /// The bound of the clock's error now.
    pub bound_ns: Nanos,
    /// The bound of its error against UTC now: with the host's own error in it, where the clock follows
    /// the host. None where it is not known.
    #[serde(default)]
    pub utc_bound_ns: Option<Nanos>,
    /// Why it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc_unknown: Option<UtcUnknown>,
    /// What the host's kernel said last of its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_clock: Option<HostClock>,
    /// The frequency set on the clock.
    pub frequency_ppb: Ppb,
    /// How fast the estimated frequency changes, per second.
    pub drift_ppb_per_s: f64,
    /// Standard deviation of the recent offsets.
    pub jitter_ns: Nanos,
    /// Time since the last good reading.
    pub since_good_ns: Nanos,
    /// Time between readings at present.
    pub poll_ns: Nanos,
    /// Readings of each source.
    pub sources: Vec<SourceStatus>,
    /// Disruptions so far, by cause.
    pub disruptions: BTreeMap<Cause, u64>,
    /// How long repairs took.
    pub recovery: Recovery,
    /// The share of time since the first sync in which the error stayed within its bound, 0..1.
    pub availability: f64,
    /// Alerts that stand now.
    pub alerts: Vec<Alert>,
    /// Records that a slow or absent host made PID 1 drop.
    pub dropped: u64,
    /// Lines from the host that were no command.
    pub rejected: u64,
    /// The boot's own times.
    pub boot: Boot,
    /// What PID 1 itself uses.
    pub init: Usage,
    /// The kernel's release, as in `uname -r`.
    pub kernel: String,
    /// The kernel's current clocksource.
    pub clocksource: String,
    /// What an instance may set, as it stands now, by the names of `guest.toml`.
    #[serde(default)]
    pub config: BTreeMap<String, Effective>,
    /// What came of looking for a seed.
    #[serde(default)]
    pub seed: Seed,
    /// The services, in the configuration's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceStatus>,
    /// The data disks, in the configuration's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskStatus>,
    /// Whether services and data disks stand still for a snapshot.
    #[serde(default, skip_serializing_if = "is_false")]
    pub frozen: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// One source's readings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Which.
    pub source: Source,
    /// Readings that were used.
    pub good: u64,
    /// Readings that failed or were not believed.
    pub bad: u64,
    /// Whether each of the last eight readings was good: a bit each, the newest the lowest, as in
    /// NTP's reach register (RFC 5905, section 13); chrony and others print it in octal.
    #[serde(default)]
    pub reach: u8,
    /// What the last good one said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastReading>,
    /// The last failure in words, e.g. why a driver did not load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// A source's last good reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReading {
    /// How long ago it was taken.
    pub ago_ns: Nanos,
    /// The source minus the guest's clock, as both were then; positive where the clock was behind.
    pub offset_ns: Nanos,
    /// How wrong that can be, by the reading itself.
    pub bound_ns: Nanos,
}

/// Time to repair, over the last disruptions (at most 256).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Repairs done.
    pub count: u64,
    /// The last one, from detection to the verifying reading.
    pub last_ns: Nanos,
    /// Median.
    pub p50_ns: Nanos,
    /// 99th percentile, nearest rank.
    pub p99_ns: Nanos,
    /// Longest.
    pub max_ns: Nanos,
}

/// Times of the boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// From the kernel's timekeeping start to PID 1's first instruction (`CLOCK_MONOTONIC` there).
    pub kernel_to_init_ns: Nanos,
    /// From PID 1's first instruction to the first verified sync; none before it.
    pub init_to_synced_ns: Option<Nanos>,
}

/// PID 1's own cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Share of one vCPU since the last status record, in millionths.
    pub cpu_ppm: u64,
    /// Resident set in KiB.
    pub rss_kib: u64,
}

/// What disturbed the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The first correction of a boot.
    Boot,
    /// Somebody in the guest set the clock.
    GuestStep,
    /// Somebody in the guest changed its frequency or tick.
    GuestFrequency,
    /// The host stopped the machine for a while.
    HostPause,
    /// Either that, or the host's own clock was set forward; this machine cannot tell which.
    HostPauseOrStep,
    /// The machine was restored from a snapshot, or migrated in.
    HostRestore,
    /// The host's own clock was set.
    HostStep,
    /// The source followed changed.
    SourceChange,
    /// None of the others explains it.
    Unknown,
}

/// What made PID 1 look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectedBy {
    /// PID 1's first reading.
    Boot,
    /// The cancel-on-set timer.
    CancelOnSet,
    /// The watch tick.
    WatchTick,
    /// The kernel's vmgenid uevent.
    Vmgenid,
    /// The disruption marker of `/dev/vmclock0`.
    Vmclock,
    /// The host's `{"kick":true}`.
    Kick,
}

/// The `event` record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Format version.
    pub v: u32,
    /// As in [`Status::seq`].
    pub seq: u64,
    /// The guest's `CLOCK_REALTIME` when the record was made.
    pub time_ns: Utc,
    /// `CLOCK_BOOTTIME` then.
    pub uptime_ns: Nanos,
    /// What changed.
    #[serde(flatten)]
    pub event: Event,
}

/// What an event record tells, by its key `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first verified sync of this boot.
    Synced {
        /// The source followed.
        source: Source,
        /// How it is read.
        method: Method,
        /// What had to be added to the clock.
        offset_ns: Nanos,
        /// The bound of the clock's error after it.
        bound_ns: Nanos,
    },
    /// The clock was found wrong.
    Disrupted {
        /// Why, as far as it can be told.
        cause: Cause,
        /// What noticed it.
        detected_by: DetectedBy,
        /// How wrong, reference minus clock.
        offset_ns: Nanos,
    },
    /// The clock is right again.
    Recovered {
        /// Why it was wrong.
        cause: Cause,
        /// What noticed it.
        detected_by: DetectedBy,
        /// From detection to the verifying reading.
        took_ns: Nanos,
        /// The verifying reading's offset.
        residual_ns: Nanos,
        /// The bound of the clock's error after it.
        bound_ns: Nanos,
    },
    /// The host's clock runs at another rate than before: whoever keeps it slews it, has changed its
    /// frequency, or has ended either. The guest's clock follows without a step, and within its bound.
    HostRate {
        /// Its rate against `CLOCK_MONOTONIC_RAW` now.
        rate_ppb: Ppb,
        /// That minus the rate that was told last, or known at the first sync.
        change_ppb: Ppb,
    },
    /// Another source is followed.
    Source {
        /// Before; none at the first.
        from: Option<Source>,
        /// Now; none in holdover.
        to: Option<Source>,
        /// Why.
        why: String,
    },
    /// An alert came up or went away.
    Alert {
        /// Which.
        alert: Alert,
        /// Whether it stands now.
        standing: bool,
        /// In words.
        why: String,
    },
    /// A service started, ended or failed to.
    Service {
        /// Its name.
        name: String,
        /// What happened to it, in words: `started`, `exited 0`, `killed by signal 9`.
        what: String,
    },
    /// A seed was found, applied or refused.
    Seed {
        /// How far it has come.
        state: SeedState,
        /// In words.
        what: String,
    },
    /// Something went wrong in PID 1 that it could go on from, or is ending with.
    Failure {
        /// What, in words.
        what: String,
    },
    /// Services and data disks stand still, so that the host can take its snapshot.
    Frozen {
        /// How many file systems: data disks whose kind can be frozen.
        file_systems: u32,
    },
    /// They go on.
    Thawed {
        /// Why.
        by: ThawedBy,
    },
    /// The machine goes down, on request or by failure.
    Shutdown {
        /// Why, in words.
        why: String,
    },
}

/// A condition that an operator should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alert {
    /// The offset exceeded 5 s.
    LargeOffset,
    /// The source followed is gone.
    SourceLost,
    /// No source for too long.
    LongHoldover,
    /// The error left its bound.
    BoundExceeded,
    /// A source was dropped because it contradicts the others or itself.
    SourceLies,
    /// The clock can't be corrected: the syscall fails.
    CannotCorrect,
    /// A data disk that the image can do without is not mounted.
    DiskMissing,
}
