//! A look at the clock: what it should read by the estimate, what it does read, and which of the
//! engine's parts has to act on the difference.

use alloc::format;
use alloc::vec::Vec;

use noonmark_contract::record::{Alert, DetectedBy};
use noonmark_contract::sample::{Local, Reading, Source};
use noonmark_contract::units::{Ppb, Raw};

use crate::deviation::Deviation;
use crate::discipline::guest_clocks;
use crate::policy::Reason;
use crate::suspicion::Trust;

use super::messages::Action;
use super::state::{ClockCheck, Contested, Engine, ReadBack};

/// A source that is to be checked may not come to run further from RAW than this from how it ran at
/// first. How that was says nothing of the source: an emulated counter can be off by per cents.
const MAX_CHANGE: Ppb = Ppb(500_000.0);

/// A rate that is known to within this is known.
const RATE_KNOWN: Ppb = Ppb(100_000.0);

impl Engine {
    /// Takes a reading in and looks at the clock by it.
    pub(super) fn take_in(&mut self, now: Raw, reading: &Reading, actions: &mut Vec<Action>) {
        // The hypervisor's word, or that of the source in question, settles where the reference is; but
        // not how fast it runs.
        let settles = |contested: &mut Contested| {
            reading.source.is_hypervisors() || contested.source == reading.source
        };
        if self.contested.take_if(settles).is_some() {
            self.estimator.restart(reading);
            self.schedule.settle_anew(now);
        }
        let found = self.estimator.follow(reading);
        if self.hinted(now).is_some() {
            self.estimator.forget_place(reading);
        }
        if self.trust(now, &reading.source) == Trust::Checked {
            let (rate, error) = (self.estimator.rate(), self.estimator.rate_error());
            if error.0 <= RATE_KNOWN.0 {
                self.first_rate.get_or_insert(rate);
            }
            let changed = self.first_rate.map_or(0.0, |first| rate.0 - first.0);
            if libm::fabs(changed) - error.0 > MAX_CHANGE.0 {
                self.estimator.unlearn();
                let why = format!("it runs {rate} against the machine's own counter");
                self.drop_followed(now, Alert::SourceLies, why, actions);
                return;
            }
        }
        self.ladder.good(reading);
        self.last.good = Some(now);
        self.last.offset = reading.offset();
        self.follow_regime(now, reading, found, actions);
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
            contested: self.contested(now),
            wrong: self.policy.is_wrong(offset) && offset.abs() > bound,
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
        if by_source && !check.wrong && !self.ladder.is_followed(&Source::Rtc) {
            self.only_rtc = false;
        }
        if self.suspicion.is_none() {
            self.look = None;
        }
    }

    /// Whether a wrong clock is to be stepped; else it is slewed, and often.
    fn must_step(&mut self, now: Raw, check: &ClockCheck, disturbed: bool) -> bool {
        let was_set = self
            .look
            .is_some_and(|look| look.by == DetectedBy::CancelOnSet);
        let reason = if disturbed || was_set {
            Reason::Guest
        } else {
            self.reason_for_estimate()
        };
        let steps = self.policy.steps(reason, check.offset);
        if !steps {
            self.schedule.hurry(now);
        }
        steps
    }

    /// Why an estimate that differs from the clock does so: a clock that only the RTC has set is as
    /// good as one that was never set.
    pub(super) fn reason_for_estimate(&self) -> Reason {
        let provisional = self.only_rtc && !self.ladder.is_followed(&Source::Rtc);
        if provisional {
            Reason::Start
        } else {
            Reason::Estimate
        }
    }
}
