//! Glances: what a watch tick costs while nothing happens. What they compare is
//! [`crate::envelope`]'s; here is when they may be taken, and what becomes of what they have read.

use noonmark_contract::record::{Alert, State};
use noonmark_contract::sample::{Local, Reading};
use noonmark_contract::units::{Nanos, Raw};

use crate::envelope::{Envelope, Limits};
use crate::estimator::Prediction;

use super::messages::Glimpse;
use super::state::Engine;

impl Engine {
    /// What to read at a watch tick that comes at `now`, if a glance may do; none where it takes a
    /// full look: [`super::Input::Wake`].
    pub fn glimpse(&mut self, now: Raw) -> Option<Glimpse> {
        self.schedule.woke(now);
        if self.envelope.is_none() {
            self.envelope = self.expect_quiet();
        }
        let envelope = self.envelope.as_ref().filter(|e| e.lasts(now))?;
        if envelope.is_local() {
            return Some(Glimpse::Local);
        }
        let followed = self.ladder.followed()?;
        Some(Glimpse::Reading(followed.source.clone()))
    }

    /// The answer to [`Glimpse::Reading`]: when to look next, if all is as expected; else a full
    /// look is due now.
    pub fn glance(&mut self, reading: &Reading) -> Option<Raw> {
        let next = self.envelope.as_mut()?.glance(reading)?;
        self.indicators.add_offset(reading.offset());
        self.schedule.wake_at(next);
        Some(next)
    }

    /// The answer to [`Glimpse::Local`], likewise.
    pub fn glance_local(&mut self, local: &Local) -> Option<Raw> {
        let next = self.envelope.as_mut()?.glance_local(local)?;
        self.schedule.wake_at(next);
        Some(next)
    }

    /// Takes in what glances have found; what was expected is void.
    pub(super) fn end_glances(&mut self) {
        let Some(envelope) = self.envelope.take() else {
            return;
        };
        if let Some(at) = envelope.last_glance() {
            self.last.quiet = Some(at);
        }
        if let Some((count, last)) = envelope.readings() {
            self.last.good = Some(last.at);
            self.last.offset = last.offset;
            self.ladder.followed_well(count, last);
        }
        if let Some(summary) = envelope.summary() {
            self.estimator.follow_summary(&summary);
        }
    }

    /// The last good reading, glances included: when, and the clock's offset by it.
    pub(super) fn last_good(&self) -> (Option<Raw>, Nanos) {
        match self.envelope.as_ref().and_then(Envelope::readings) {
            Some((_, last)) => (Some(last.at), last.offset),
            None => (self.last.good, self.last.offset),
        }
    }

    /// Where the reference is at `now`, glances included.
    pub(super) fn predict(&self, now: Raw) -> Option<Prediction> {
        let prediction = self.estimator.predict(now)?;
        let envelope = self.envelope.as_ref();
        let has_read = envelope.filter(|envelope| envelope.readings().is_some());
        Some(has_read.map_or(prediction, |envelope| envelope.narrow(now, &prediction)))
    }

    /// How far the clock was off its line at the last glance.
    pub(super) fn strayed(&self) -> Nanos {
        let envelope = self.envelope.as_ref();
        envelope.map_or(Nanos::ZERO, Envelope::strayed)
    }

    /// What a quiet future looks like; none while anything is open.
    fn expect_quiet(&self) -> Option<Envelope> {
        let rung = self.ladder.followed()?;
        let is_local = !rung.source.is_immediate();
        let is_open = self.state != State::Synced
            || self.suspicion.is_some()
            || self.regime.is_some()
            || self.repair.is_some()
            || self.look.is_some()
            || self.writing.is_some()
            || self.reading_back.is_some()
            || self.ladder.is_any_asked()
            || self.indicators.is_standing(Alert::BoundExceeded);
        // A source that is to be checked is compared with more than one line.
        if is_open || !(is_local || rung.source.is_hypervisors()) {
            return None;
        }
        let clock = self.discipline.forecast()?;
        let reference = self.estimator.forecast(clock.local.raw)?;
        let mut until = self.schedule.settle;
        if is_local {
            until = until.min(self.schedule.read);
        }
        if let Some(retry) = self.ladder.next_candidate() {
            until = until.min(retry);
        }
        let offset = (reference.reference - clock.local.realtime).abs();
        let limits = Limits {
            until,
            room: self.policy.room(offset),
            watch: self.tick(clock.local.raw),
            is_local,
        };
        Some(Envelope::new(&clock, &reference, limits))
    }
}
