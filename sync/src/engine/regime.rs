//! The reference followed has left its line: whether that was a step or another rate is found by
//! [`crate::estimator`] from the readings that follow, which are taken quickly; here they are asked
//! for, and what they say is done.
//!
//! A step is a disruption, which is repaired and told. Another rate is followed by frequency and tick
//! and told once it is known, and no program of the guest has to do with it.

use alloc::format;
use alloc::vec::Vec;

use noonmark_contract::record::{Alert, Cause, Event};
use noonmark_contract::sample::Reading;
use noonmark_contract::units::{Nanos, Ppb, Raw};

use crate::estimator::Finding;
use crate::policy::Reason;
use crate::suspicion::Suspicion;

use super::messages::Action;
use super::state::{Engine, Regime};

/// The second reading of a regime comes this long after the first; the others double the time.
const READ_FIRST: Nanos = Nanos::from_millis(1);

/// A change of the host's rate that is told.
const TOLD: f64 = 5_000.0;

impl Engine {
    /// The source is right, and the reference has left its line; `reading` confirms it.
    pub(super) fn begin_regime(
        &mut self,
        now: Raw,
        suspicion: &Suspicion,
        reading: &Reading,
        actions: &mut Vec<Action>,
    ) {
        let by = suspicion.claim().by;
        let cause = self.cause_of_move(now, by);
        // A machine that was interrupted may go on under another host, whose clock has another rate.
        let was_interrupted = self.hinted(now).is_some();
        self.hint = None;
        let is_new = self.estimator.is_new();
        let rate_before = match &self.regime {
            Some(regime) => regime.rate_before,
            None => (!is_new).then(|| self.estimator.rate()),
        };
        self.regime = Some(Regime {
            since: suspicion.first().raw,
            by,
            cause,
            rate_before,
            was_told: false,
            read_at: now,
        });
        let is_void = is_new || was_interrupted;
        self.estimator.begin_regime(&suspicion.first(), is_void);
        self.schedule.settle_anew(now);
        self.take_in(now, reading, actions);
    }

    /// A reading has been taken in while a regime is young. `found` is what is known of how it began.
    pub(super) fn follow_regime(
        &mut self,
        now: Raw,
        reading: &Reading,
        found: Option<Finding>,
        actions: &mut Vec<Action>,
    ) {
        let Some(regime) = &mut self.regime else {
            return;
        };
        if found.is_some_and(|found| found.stepped) && !regime.was_told {
            regime.was_told = true;
            let (by, cause) = (regime.by, regime.cause);
            self.reference_stepped(now, reading, by, cause, actions);
        }
        if self.estimator.is_open() {
            self.read_again(now, actions);
            // Else it would be followed somewhere.
            let off = libm::fabs(self.estimator.rate().0 - self.discipline.commanded().rate().0);
            if self.estimator.rate_error().0 < off / 2.0 {
                self.schedule.settle = now;
            }
        } else if let Some(regime) = self.regime.take() {
            self.schedule.settle = now;
            self.tell_rate(now, regime.rate_before, actions);
        }
    }

    /// The reference was stepped by `by`, or the machine stood still, and `reading` says where to.
    pub(super) fn reference_stepped(
        &mut self,
        now: Raw,
        reading: &Reading,
        by: Nanos,
        cause: Cause,
        actions: &mut Vec<Action>,
    ) {
        let offset = reading.offset();
        let reason = if cause == Cause::SourceChange {
            self.reason_for_estimate()
        } else {
            Reason::Host
        };
        if reason != Reason::Host && !self.policy.steps(reason, offset) {
            return;
        }
        if self.policy.steps(reason, offset) {
            // What the reference's move does not account for, somebody in the guest did.
            let guest_moved = (offset - by).abs() > by.abs();
            let cause = if guest_moved { Cause::GuestStep } else { cause };
            self.begin_repair(now, cause, offset);
        } else {
            let why = format!("the reference moved by {by} for no known reason");
            self.alert(Alert::BoundExceeded, true, &why, actions);
        }
    }

    /// Reads again when the regime is twice as old as now, or at the next tick.
    fn read_again(&mut self, now: Raw, actions: &mut Vec<Action>) {
        let watch = self.tick(now);
        let followed = self.ladder.followed();
        if !followed.is_some_and(|rung| rung.source.is_immediate()) {
            return;
        }
        let Some(regime) = &mut self.regime else {
            return;
        };
        if now < regime.read_at {
            return;
        }
        let age = now - regime.since;
        regime.read_at = now + age.max(READ_FIRST).min(watch);
        let due = regime.read_at;
        self.wake_at(due, actions);
    }

    fn tell_rate(&mut self, now: Raw, before: Option<Ppb>, actions: &mut Vec<Action>) {
        let rate_ppb = self.estimator.rate();
        let before = before.unwrap_or(rate_ppb);
        let told = *self.told_rate.get_or_insert(before);
        let change_ppb = Ppb(rate_ppb.0 - told.0);
        let changed = libm::fabs(rate_ppb.0 - before.0) >= TOLD;
        if changed {
            self.schedule.moved = Some(now);
        }
        if changed && libm::fabs(change_ppb.0) >= TOLD {
            self.told_rate = Some(rate_ppb);
            actions.push(Action::Emit(Event::HostRate {
                rate_ppb,
                change_ppb,
            }));
        }
    }
}
