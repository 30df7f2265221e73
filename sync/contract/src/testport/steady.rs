//! What the observer of a test image sees of a clock that nobody disturbs, and what keeping it so
//! costs.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// The most readings of one answer, so that it stays one line that a host takes in (64 KiB).
pub const READINGS_MAX: u64 = 2_400;

/// The longest span of one request: a day.
pub const SPAN_MAX_MS: u64 = 86_400_000;

/// A request to compare the clock with the host's, without disturbing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// For how long; 1 to [`SPAN_MAX_MS`].
    pub span_ms: u64,
    /// Time between two readings; at least 1, and so that there are at most [`READINGS_MAX`].
    pub every_ms: u64,
}

/// The answer: readings of ptp_kvm's clock, whoever keeps the guest's, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steady {
    /// Reference minus `CLOCK_REALTIME`, one for each reading, in their order.
    pub offsets_ns: Vec<Nanos>,
    /// Readings that failed.
    pub failed: u32,
    /// `CLOCK_BOOTTIME` before the first reading.
    pub began_at_ns: Nanos,
    /// From before the first reading to after the last, by `CLOCK_MONOTONIC_RAW`.
    pub span_ns: Nanos,
    /// Every program that ran all the time; kernel threads are left out.
    pub processes: Vec<ProcessCost>,
    /// Reference minus `CLOCK_REALTIME` at the observer's own first instruction, which is what a
    /// service started at boot would have read.
    pub first_read_ns: Nanos,
    /// `CLOCK_BOOTTIME` then.
    pub first_read_at_ns: Nanos,
}

/// What one process used meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessCost {
    /// Its number.
    pub pid: u32,
    /// Its name, as in `/proc/PID/comm`.
    pub name: String,
    /// Processor time of all its threads.
    pub cpu_ns: Nanos,
    /// Its resident set at the end, in KiB.
    pub rss_kib: u64,
}
