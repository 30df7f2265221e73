//! A look at the clock: what it should read by the estimate, what it does read, and which of the
//! engine's parts has to act on the difference.

use alloc::format;
use alloc::vec::Vec;

use noonmark_contract::record::{Alert, DetectedBy};
use noonmark_contract::sample::{Local, Reading};
use noonmark_contract::units::{Nanos, Ppb, Raw};

use crate::deviation::Deviation;
use crate::discipline::guest_clocks;
use crate::suspicion::Trust;

use super::messages::Action;
use super::state::{ClockCheck, Engine, Notice, ReadBack};

/// An offset below this may come of a better estimate by a source whose readings are no better.
const REFINEMENT: Nanos = Nanos::from_millis(1);

/// A source that is to be checked may not run further from RAW than this. Timer calibrations are
/// within it.
const MAX_RATE: Ppb = Ppb(500_000.0);

impl Engine {
    /// Takes a reading in and looks at the clock by it.
    pub(super) fn take_in(&mut self, now: Raw, reading: &Reading, actions: &mut Vec<Action>) {
        self.estimator.follow(reading);
        if self.trust(now, &reading.source) == Trust::Checked {
            let (rate, error) = (self.estimator.rate(), self.estimator.rate_error());
            if libm::fabs(rate.0) - error.0 > MAX_RATE.0 {
                self.estimator.unlearn();
                let why = format!("it runs {rate} against the machine's own counter");
                self.drop_followed(now, Alert::SourceLies, why, actions);
                return;
            }
        }
        self.ladder.good(reading);
        self.last.good = Some(now);
        self.last.offset = reading.offset();
        self.check(now, &guest_clocks(reading), true, actions);
    }

    /// The answer to `ReadLocal`.
    pub(super) fn local(&mut self, now: Raw, local: &Local, actions: &mut Vec<Action>) {
        self.check(now, local, false, actions);
    }

    /// Looks at the clock beside what the estimator expects. `by_source` says that a reading of
    /// the source followed has just been taken in, so that a repair can be called verified.
    fn check(&mut self, now: Raw, local: &Local, by_source: bool, actions: &mut Vec<Action>) {
        let moved = self
            .discipline
            .compare(local)
            .filter(Deviation::exceeds)
            .map(|deviation| deviation.by);
        self.discipline.observe(local);
        let Some(prediction) = self.estimator.predict(local.raw) else {
            return;
        };
        let offset = prediction.reference - local.realtime;
        let bound = prediction.bound() + local.bound;
        let check = ClockCheck {
            offset,
            bound,
            wrong: offset.abs() >= self.step && offset.abs() > bound,
        };
        if self.writing.is_some() || self.reading_back.is_some() {
            return;
        }
        if self.repair.is_some() {
            self.go_on_repairing(now, &check, by_source, actions);
        } else if check.wrong && self.must_step(now, &check, moved.is_some()) {
            self.start_repairing(now, &check, moved, actions);
        } else if let Some(by) = moved {
            self.read_back(ReadBack::Disturbed(by), actions);
        } else {
            self.quiet(now, &check, by_source, actions);
        }
        if self.suspicion.is_none() {
            self.look = None;
        }
    }

    /// Whether the source followed is one that is not taken at its word.
    fn is_checked(&self, now: Raw) -> bool {
        let followed = self.ladder.followed();
        followed.is_none_or(|rung| self.trust(now, &rung.source) == Trust::Checked)
    }

    /// Whether a wrong clock is to be stepped. Where nothing has disturbed it and the source is a
    /// coarse one, the estimate has moved, not the clock; that is slewed away, if it is little.
    fn must_step(&mut self, now: Raw, check: &ClockCheck, disturbed: bool) -> bool {
        let told = |look: Notice| look.by != DetectedBy::WatchTick;
        let refined = !self.look.is_some_and(told)
            && !disturbed
            && self.is_checked(now)
            && check.offset.abs() < REFINEMENT.max(self.step);
        if refined {
            self.schedule.settle = now;
        }
        !refined
    }
}
