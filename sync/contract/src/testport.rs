//! Messages on port `noonmark.test`, which only test images have: the host asks the fault program
//! to disturb the clock, and gets back what the in-guest observer saw. JSON Lines both ways.

mod steady;
mod trace;
mod track;
mod vigil;

use alloc::string::String;
use alloc::vec::Vec;

pub use steady::{ProcessCost, READINGS_MAX, SPAN_MAX_MS, Steady, Watch};

use serde::{Deserialize, Serialize};

pub use trace::{POINTS_MAX, TracePoint, Tracer};
pub use track::{ErrorPoint, HostError, HostTime, TRACK_POINTS_MAX, Track};
pub use vigil::{Ask, Clocks, Query, STRETCHES_MAX, Stretch, Vigil};

use crate::units::{Nanos, Ppb, Utc};

/// The port's name on the virtio-serial bus.
pub const PORT: &str = "noonmark.test";

/// A fault that the host asks for, in one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Format version: 1.
    pub v: u32,
    /// Comes back in the answer.
    pub id: u64,
    /// What to do to the clock.
    pub fault: Fault,
    /// From this error on a read counts as wrong.
    pub tolerance_ns: Nanos,
    /// Within this of the host's clock, where the observer can read that, a clock that was given a foreign
    /// rate is right again.
    pub error_limit_ns: Nanos,
    /// How long the clock must stay right before the observer believes it.
    pub settle_ns: Nanos,
    /// When to give up, counted from the fault.
    pub deadline_ms: u64,
}

/// A disturbance, done through the syscall that a person's command would use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// `clock_settime(CLOCK_REALTIME)` to this instant, as `date 030112302023` does.
    Set(Utc),
    /// `clock_settime(CLOCK_REALTIME)` to now plus this, as `date -s '+1 hour'` does.
    Shift(Nanos),
    /// `adjtimex` with `ADJ_FREQUENCY`: this frequency, +-500 ppm.
    Frequency(Ppb),
    /// `adjtimex` with `ADJ_TICK`: microseconds between two ticks of 1/100 s, 9000..=11000.
    Tick(i64),
    /// Nothing: the observer alone, to learn its noise.
    None,
    /// Nothing: the clock is compared with the host's for a while. Tolerance, settling time and
    /// deadline have no meaning then.
    Watch(Watch),
}

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Format version: 1.
    pub v: u32,
    /// The request's, or 0 in the greeting that the program sends when it is ready.
    pub id: u64,
    /// What happened.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What an [`Answer`] says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The program is ready for requests.
    Ready,
    /// A fault was done and watched.
    Observed(Observation),
    /// A [`Fault::Watch`] was done.
    Steady(Steady),
    /// The guest's clocks.
    Time(Clocks),
    /// What a vigil saw.
    Kept(Vigil),
    /// What a track saw.
    Tracked(Track),
    /// The order was carried out.
    Done,
    /// It could not be done; why.
    Error(String),
}

/// What a spinning reader of `CLOCK_REALTIME` saw, against `CLOCK_MONOTONIC_RAW`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// From just before the fault's system call to the first read of those that stay within
    /// tolerance; none where that did not happen before the deadline.
    pub recovered_ns: Option<Nanos>,
    /// Reads that were out of tolerance.
    pub wrong_reads: u64,
    /// All reads.
    pub reads: u64,
    /// The largest error seen, by magnitude.
    pub worst_ns: Nanos,
    /// The error that was left at the end of the settling time (median of the last reads), against
    /// the line through the clock's offset before the fault.
    pub residual_ns: Nanos,
    /// How far the observer itself can be wrong about `residual_ns`.
    pub residual_bound_ns: Nanos,
    /// For [`Fault::Frequency`] and [`Fault::Tick`]: from just before the fault's system call to the first
    /// read from which the foreign rate was gone for good and the clock within `error_limit_ns`; where the
    /// observer can't read the host's clock, to the first from which the rate stayed about what it had been.
    #[serde(default)]
    pub restored_ns: Option<Nanos>,
    /// The error against the time since the fault, at most [`POINTS_MAX`] points.
    #[serde(default)]
    pub trace: Vec<TracePoint>,
    /// The clock's error against the host's just before the fault; none in a guest without ptp_kvm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<HostError>,
    /// The same after the settling time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<HostError>,
}
