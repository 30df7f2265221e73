//! Moves on the ladder: failing over, holding over, climbing back.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use noonmark_contract::record::{Alert, Event, State};
use noonmark_contract::sample::{ReadFailure, Reading, Source};
use noonmark_contract::units::Raw;

use crate::doubt::Trust;
use crate::ladder::{Probe, Standing};

use super::{Action, Engine, NETWORK_READ_FIRST, SLOW_READ_FIRST};

impl Engine {
    /// Reads the best source that is due, if it would be a better one.
    pub(super) fn try_candidate(&mut self, now: Raw, actions: &mut Vec<Action>) {
        if let Some(source) = self.ladder.candidate(now) {
            self.ask(&source, now, actions);
        }
    }

    /// A source that is not followed has answered.
    pub(super) fn probed(&mut self, now: Raw, reading: Reading, actions: &mut Vec<Action>) {
        let source = reading.source.clone();
        let accused = self.ladder.has_lied(&source);
        let deviation = self.estimator.compare(&reading);
        let probe = Probe {
            at: reading.raw,
            deviation: self.estimator.off_line(&reading),
            bound: reading.bound,
        };
        let contradicts = deviation.is_some_and(|deviation| deviation.exceeds());
        let checked = self.trust(now, &source) == Trust::Checked;
        if (accused && contradicts) || (checked && self.has_drifted(&source, &probe)) {
            let why = String::from("it contradicts what is known");
            self.ladder.lied(&source, why, now);
            self.without_candidate(now, actions);
            return;
        }
        if !self.ladder.is_better(&source) {
            return;
        }
        let proven = self.ladder.probed(&reading, probe);
        let unopposed = self.ladder.followed().is_none() && !accused;
        if unopposed {
            self.follow(now, &source, "it is the best that answers", actions);
            self.track(now, reading, actions);
        } else if proven {
            self.follow(now, &source, "a better source is back", actions);
            self.track(now, reading, actions);
        }
    }

    /// Whether a source under probation has moved against the estimate's line since its first probe.
    fn has_drifted(&self, source: &Source, probe: &Probe) -> bool {
        self.ladder.first_probe(source).is_some_and(|first| {
            let elapsed = probe.at - first.at;
            let explained = first.bound + probe.bound + self.expected_rate_error().over(elapsed);
            (probe.deviation - first.deviation).abs() > explained
        })
    }

    fn follow(&mut self, now: Raw, source: &Source, why: &str, actions: &mut Vec<Action>) {
        let from = self.ladder.let_go().or_else(|| self.schedule.lost.take());
        self.schedule.lost = None;
        self.ladder.follow(source);
        if self.ladder.has_lied(source) {
            self.ladder.absolve(source);
            if !self.ladder.any_has_lied() {
                let why = format!("{source} agrees with the others again");
                self.alert(Alert::SourceLies, false, &why, actions);
            }
        }
        self.doubt = None;
        self.schedule.holdover = None;
        self.schedule.switched = from.is_some().then_some(now);
        self.schedule.read_interval = match source {
            Source::Ntp => NETWORK_READ_FIRST,
            _ => SLOW_READ_FIRST,
        };
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

    /// A source gave no reading, or none that can be true.
    pub(super) fn read_failed(
        &mut self,
        now: Raw,
        source: &Source,
        why: ReadFailure,
        actions: &mut Vec<Action>,
    ) {
        let standing = self.ladder.bad(source, why, now);
        if self.ladder.is_followed(source) {
            if standing == Standing::Lost {
                let alert = match why {
                    ReadFailure::Garbage => Alert::SourceLies,
                    _ => Alert::SourceLost,
                };
                self.drop_followed(now, alert, format!("{why}"), actions);
            } else if !source.is_immediate() {
                self.ask(source, now, actions);
            }
        } else if self.doubt.as_ref().is_some_and(|doubt| doubt.is_hearing()) {
            self.ask_witness(now, Some(source), actions);
        } else if self.ladder.followed().is_none() {
            self.try_candidate(now, actions);
            self.without_candidate(now, actions);
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
        let Some(source) = self.ladder.let_go() else {
            return;
        };
        if alert == Alert::SourceLies {
            self.ladder.lied(&source, why.clone(), now);
            // The frequency in force was learnt from it.
            self.schedule.settle = now;
        }
        self.alert(alert, true, &format!("{source}: {why}"), actions);
        self.doubt = None;
        self.schedule.lost = Some(source);
        self.try_candidate(now, actions);
        self.without_candidate(now, actions);
    }

    /// Goes into holdover, unless a source is being tried or followed.
    fn without_candidate(&mut self, now: Raw, actions: &mut Vec<Action>) {
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
