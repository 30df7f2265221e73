//! What the host and the fault program say to each other where the host itself disturbs the machine:
//! the program keeps a vigil over the clock, and answers what the time is meanwhile.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Raw, Utc};

use super::track::HostTime;

/// The most stretches that a vigil keeps.
pub const STRETCHES_MAX: usize = 256;

/// A question or an order that is no fault, in one line from the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Format version: 1.
    pub v: u32,
    /// Comes back in the answer.
    pub id: u64,
    /// What is wanted.
    pub ask: Ask,
}

/// What a [`Query`] wants, and what it is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The guest's clocks at this moment: `time`.
    Time,
    /// Read the clock without a pause from now on, for at most a minute of the guest's own time,
    /// while further queries are answered: `done`.
    Vigil,
    /// End the vigil: `kept`.
    EndVigil,
    /// Put the guest under load, a CPU hog on each processor, a memory hog and a fork loop, and run
    /// the observer above them by SCHED_FIFO from now on: `done`.
    Load,
    /// End the load: `done`.
    EndLoad,
    /// Read the guest's clock against the host's by ptp_kvm from now on, every so many milliseconds
    /// (at least one), while further requests are answered: `done`; an error in a guest without it.
    Track {
        /// Between two readings.
        every_ms: u32,
    },
    /// End that: `tracked`.
    EndTrack,
}

/// `CLOCK_REALTIME`, read between two readings of `CLOCK_MONOTONIC_RAW`; in a guest with ptp_kvm all
/// clocks are of one reading of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// The middle of the two.
    pub raw: Raw,
    /// What the clock said there.
    pub realtime: Utc,
    /// From one to the other; `raw` is wrong by at most half of it.
    pub width_ns: Nanos,
    /// The host's clock there; none in a guest without ptp_kvm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostTime>,
}

/// What a vigil saw of the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vigil {
    /// The clock between two jumps, in order; at most [`STRETCHES_MAX`].
    pub stretches: Vec<Stretch>,
    /// Jumps beyond those.
    pub lost: u64,
}

/// A time in which the clock did not jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Its first read.
    pub from: Raw,
    /// Its last read.
    pub to: Raw,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC_RAW` at the first.
    pub from_ns: Nanos,
    /// And at the last.
    pub to_ns: Nanos,
    /// Reads in it.
    pub reads: u64,
}

impl Stretch {
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC_RAW` at `at`, on the straight line from the first
    /// read to the last.
    #[must_use]
    pub fn difference(&self, at: Raw) -> Nanos {
        let span = (self.to - self.from).0;
        if span <= 0 {
            return self.from_ns;
        }
        let share = (at - self.from).0.clamp(0, span) as f64 / span as f64;
        let change = (self.to_ns - self.from_ns).0 as f64;
        self.from_ns + Nanos((change * share) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_a_straight_line_that_ends_with_its_reads() {
        let stretch = Stretch {
            from: Raw(1_000),
            to: Raw(2_000),
            from_ns: Nanos(50),
            to_ns: Nanos(70),
            reads: 9,
        };
        let at = |raw| stretch.difference(Raw(raw)).0;
        assert_eq!(
            [at(0), at(1_000), at(1_500), at(2_000), at(9_000)],
            [50, 50, 60, 70, 70]
        );
        let point = Stretch {
            to: Raw(1_000),
            ..stretch
        };
        assert_eq!(point.difference(Raw(5_000)), Nanos(50));
    }
}
