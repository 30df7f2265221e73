//! One reading of a reference clock beside the guest's own clocks.

use core::fmt;

use serde::{Deserialize, Serialize};

pub use crate::source::Source;
use crate::units::{Nanos, Raw, Utc};

/// How a reading was taken; they differ in what bounds their error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// `PTP_SYS_OFFSET_PRECISE`: the device pairs its time with the clocksource itself.
    Precise,
    /// `PTP_SYS_OFFSET_EXTENDED`: system time just before and just after the device's.
    Extended,
    /// `PTP_SYS_OFFSET`: system and device time in turn.
    Offset,
    /// Four timestamps over the host's time channel, where the bound is half the shortest round
    /// trip; or with servers on a network, where it is what those that agree say.
    RoundTrip,
    /// Whole seconds of `/dev/rtc0`, timed at the second's edge where the driver can.
    Rtc,
}

/// A reference reading paired with both guest clocks at one instant.
///
/// Deliberately neither `Copy` nor `Clone`: a reading is used once.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// Where it came from.
    pub source: Source,
    /// How it was taken.
    pub method: Method,
    /// The reference's time.
    pub reference: Utc,
    /// `CLOCK_REALTIME` at that instant.
    pub realtime: Utc,
    /// `CLOCK_MONOTONIC_RAW` at that instant.
    pub raw: Raw,
    /// The largest error that the pairing itself can have; not the source's own error.
    pub bound: Nanos,
}

impl Reading {
    /// Reference minus clock: what would have to be added to `CLOCK_REALTIME`.
    #[must_use]
    pub fn offset(&self) -> Nanos {
        self.reference - self.realtime
    }
}

/// Both guest clocks at one instant, with no reference.
///
/// Taken as `CLOCK_MONOTONIC_RAW`, `CLOCK_REALTIME`, `CLOCK_MONOTONIC_RAW`: `raw` is the middle of
/// the outer two and `bound` half of what lies between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// `CLOCK_REALTIME`.
    pub realtime: Utc,
    /// `CLOCK_MONOTONIC_RAW` at that instant.
    pub raw: Raw,
    /// The largest error of the pairing.
    pub bound: Nanos,
}

/// Why a source gave no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadFailure {
    /// There is no such device, port or helper on this machine (now).
    Absent,
    /// The device refused: the errno of its ioctl.
    Refused(i32),
    /// Nothing came back within the deadline.
    Timeout,
    /// What came back was no answer: broken framing, a wrong sequence, an impossible time.
    Garbage,
}

impl fmt::Display for ReadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("not there"),
            Self::Refused(errno) => write!(f, "refused with errno {errno}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Garbage => f.write_str("an answer that can't be true"),
        }
    }
}
