//! Reads the guest's clock against the host's at a steady pace, between the requests that are answered
//! meanwhile. The test port calls such a recording a track.

use std::time::Duration;

use noonmark_contract::testport::{ErrorPoint, TRACK_POINTS_MAX, Track};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;

use crate::reference::{self, Reference};

/// A track under way.
#[derive(Debug)]
pub struct Tracker {
    every: Nanos,
    due: Raw,
    seen: Track,
}

impl Tracker {
    /// Begins at `now`, with a reading every `every_ms`; of fewer than one it is one.
    #[must_use]
    pub fn new(now: Raw, every_ms: u32) -> Self {
        Self {
            every: Nanos::from_millis(i64::from(every_ms.max(1))),
            due: now,
            seen: Track {
                began: now,
                points: Vec::with_capacity(TRACK_POINTS_MAX),
                ..Track::default()
            },
        }
    }

    /// Takes the reading that is due, if one is.
    pub fn read(&mut self, reference: &mut Reference) {
        let now = clocks::raw();
        if !self.is_due(now) {
            return;
        }
        match reference.precise() {
            Some(reading) => {
                let error = reference::error(&reading);
                self.take(reading.raw, error.error_ns, error.bound_ns);
            }
            None => self.seen.failed = self.seen.failed.saturating_add(1),
        }
    }

    /// How long until the next reading.
    #[must_use]
    pub fn wait(&self) -> Duration {
        let left = self.due - clocks::raw();
        Duration::from_nanos(u64::try_from(left.0).unwrap_or(0))
    }

    /// What was seen.
    #[must_use]
    pub fn finish(self) -> Track {
        self.seen
    }

    /// Whether a reading is due; the next one then is a whole number of steps later, so that one
    /// that was late shifts no other.
    fn is_due(&mut self, now: Raw) -> bool {
        if now < self.due {
            return false;
        }
        let passed = (now - self.due).0 / self.every.0 + 1;
        self.due = self.due + Nanos(self.every.0.saturating_mul(passed));
        true
    }

    fn take(&mut self, at: Raw, error: Nanos, bound: Nanos) {
        if self.seen.points.len() == TRACK_POINTS_MAX {
            self.seen.lost = self.seen.lost.saturating_add(1);
            return;
        }
        self.seen.points.push(ErrorPoint {
            at: at - self.seen.began,
            error,
            bound,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn a_reading_that_is_late_shifts_no_other() {
        let mut tracker = Tracker::new(Raw(0), 10);
        let due: Vec<bool> = [0, 1, 10, 37, 39, 40]
            .map(|ms| tracker.is_due(Raw(ms * MS)))
            .to_vec();
        assert_eq!(due, [true, false, true, true, false, true]);
    }

    #[test]
    fn a_track_has_an_end_and_tells_what_it_left_out() {
        let mut tracker = Tracker::new(Raw(7), 0);
        for i in 0..2_000 {
            tracker.take(Raw(7 + i * MS), Nanos(i), Nanos(10));
        }
        let seen = tracker.finish();
        assert_eq!(seen.points.len(), TRACK_POINTS_MAX);
        assert_eq!(seen.lost as usize, 2_000 - TRACK_POINTS_MAX);
        assert_eq!(seen.points[3].at, Nanos(3 * MS));
    }
}
