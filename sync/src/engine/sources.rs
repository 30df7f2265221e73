//! Moves on the ladder: failing over, holding over, climbing back.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use noonmark_contract::record::{Alert, Event, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::Raw;

use super::messages::Action;
use super::state::Engine;

impl Engine {
    /// Reads the best source that is due, if it would be a better one.
    pub(super) fn try_candidate(&mut self, now: Raw, actions: &mut Vec<Action>) {
        if let Some(source) = self.ladder.candidate(now)
            && !self.waits_for_better_than(&source, now)
        {
            self.ask(&source, now, actions);
        }
    }

    /// At boot the RTC, good to a second and perhaps never set, is enough only once a better source
    /// has had time to answer.
    fn waits_for_better_than(&self, source: &Source, now: Raw) -> bool {
        *source == Source::Rtc
            && self.state == State::Unsynced
            && now - self.started < self.rtc_grace
            && self.ladder.may_do_better(source)
    }

    /// Follows `source` from now on.
    pub(super) fn follow(
        &mut self,
        now: Raw,
        source: &Source,
        why: &str,
        actions: &mut Vec<Action>,
    ) {
        let from = self.ladder.let_go().or_else(|| self.schedule.lost.take());
        self.schedule.lost = None;
        self.ladder.follow(source);
        if self.ladder.is_falseticker(source) {
            self.ladder.clear_falseticker(source);
            if !self.ladder.is_any_falseticker() {
                let why = format!("{source} agrees with the others again");
                self.alert(Alert::SourceLies, false, &why, actions);
            }
        }
        self.suspicion = None;
        self.schedule.follow(now, source, from.as_ref());
        if from.as_ref() != Some(source) {
            actions.push(Action::Emit(Event::Source {
                from,
                to: Some(source.clone()),
                why: why.into(),
            }));
        }
        for alert in [Alert::SourceLost, Alert::LongHoldover] {
            self.alert(alert, false, &format!("{source} is followed"), actions);
        }
    }

    /// Lets go of the source followed and turns to the next.
    pub(super) fn drop_followed(
        &mut self,
        now: Raw,
        alert: Alert,
        why: String,
        actions: &mut Vec<Action>,
    ) {
        let contest = self.contest();
        let Some(source) = self.ladder.let_go() else {
            return;
        };
        // What it said last may be true, whyever it is let go.
        self.contested = contest.or(self.contested.take());
        if alert == Alert::SourceLies {
            self.ladder.mark_falseticker(&source, why.clone(), now);
            // The frequency in force was learnt from it.
            self.schedule.settle = now;
        }
        self.alert(alert, true, &format!("{source}: {why}"), actions);
        self.suspicion = None;
        self.schedule.lost = Some(source);
        self.try_candidate(now, actions);
        self.without_candidate(now, actions);
    }

    /// Goes into holdover, unless a source is being tried or followed.
    pub(super) fn without_candidate(&mut self, now: Raw, actions: &mut Vec<Action>) {
        let trying = self.ladder.followed().is_some() || self.ladder.is_any_asked();
        if trying || self.state == State::Unsynced {
            return;
        }
        if self.schedule.holdover.is_none() {
            self.schedule.holdover = Some(now);
            actions.push(Action::Emit(Event::Source {
                from: self.schedule.lost.take(),
                to: None,
                why: "no source answers".into(),
            }));
        }
        if self.repair.is_some() {
            // Nothing but the guest's own clocks is left to verify the repair with.
            actions.push(Action::ReadLocal);
        } else {
            self.state = State::Holdover;
        }
    }
}
