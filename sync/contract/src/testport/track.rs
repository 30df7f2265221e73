//! The guest's clock against the host's over time, while the host disturbs its own clock or runs a
//! program that keeps it: read by ptp_kvm at a steady pace, and answered in one piece at the end.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Raw, Utc};

/// The most points of one track, so that its answer stays one line that a host takes in (64 KiB).
pub const TRACK_POINTS_MAX: usize = 1_200;

/// The host's clock at an instant of the guest's, as the observer itself reads both by
/// `PTP_SYS_OFFSET_PRECISE` of ptp_kvm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostTime {
    /// `CLOCK_REALTIME` of the host.
    pub utc: Utc,
    /// How far that may be wrong.
    pub bound_ns: Nanos,
}

/// The guest's clock against the host's, as the observer itself reads both by
/// `PTP_SYS_OFFSET_PRECISE` of ptp_kvm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostError {
    /// Guest minus host; positive where the guest is ahead.
    pub error_ns: Nanos,
    /// How far the reading itself may be wrong.
    pub bound_ns: Nanos,
}

/// What a track saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// When it began.
    pub began: Raw,
    /// The readings, in order; at most [`TRACK_POINTS_MAX`].
    pub points: Vec<ErrorPoint>,
    /// Readings that failed.
    pub failed: u32,
    /// Readings that were due after the list was full.
    pub lost: u32,
}

/// The clock's error at one instant, with its bound. As JSON, `[at, error, bound]`, all in
/// nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Nanos, Nanos, Nanos)", into = "(Nanos, Nanos, Nanos)")]
pub struct ErrorPoint {
    /// Since what it is counted from: a track's beginning, a fault. Negative before it.
    pub at: Nanos,
    /// Guest minus host; positive where the guest is ahead.
    pub error: Nanos,
    /// How far the reading itself may be wrong.
    pub bound: Nanos,
}

impl From<(Nanos, Nanos, Nanos)> for ErrorPoint {
    fn from((at, error, bound): (Nanos, Nanos, Nanos)) -> Self {
        Self { at, error, bound }
    }
}

impl From<ErrorPoint> for (Nanos, Nanos, Nanos) {
    fn from(point: ErrorPoint) -> Self {
        (point.at, point.error, point.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_track_is_one_line_that_a_host_takes_in() {
        let far = ErrorPoint {
            at: Nanos::from_secs(86_400),
            error: Nanos(-999_999_999_999_999_999),
            bound: Nanos(999),
        };
        let track = Track {
            began: Raw(i64::MAX),
            points: alloc::vec![far; TRACK_POINTS_MAX],
            failed: u32::MAX,
            lost: u32::MAX,
        };
        let text = serde_json::to_string(&track).unwrap();
        assert!(text.len() < 60 * 1024, "{}", text.len());
        let back: Track = serde_json::from_str(&text).unwrap();
        assert_eq!(back, track);
    }
}
