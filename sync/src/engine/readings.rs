//! Readings: each goes to the part of the engine that waits for it. That of the source followed is
//! compared with what is expected of the reference; that of another cross-checks it, or is a probe.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use noonmark_contract::record::Alert;
use noonmark_contract::sample::{ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Raw, Utc};

use crate::deviation::Deviation;
use crate::ladder::{AfterFailure, Probe};
use crate::suspicion::{Agreement, SMALL_INTERVAL, Trust};

use super::messages::Action;
use super::state::Engine;

impl Engine {
    /// The answer to a `Read`.
    pub(super) fn read(
        &mut self,
        now: Raw,
        source: &Source,
        outcome: Result<Reading, ReadFailure>,
        actions: &mut Vec<Action>,
    ) {
        self.ladder.answered(source);
        let outcome = outcome.and_then(|reading| self.plausible(now, reading));
        let followed = self.ladder.is_followed(source);
        match outcome {
            Ok(reading) if followed => self.track(now, reading, actions),
            Ok(reading) if self.is_cross_checking() => self.cross_checked(now, &reading, actions),
            Ok(reading) => self.probed(now, reading, actions),
            Err(why) => self.read_failed(now, source, why, actions),
        }
    }

    /// Refuses what no reference can say.
    fn plausible(&self, now: Raw, reading: Reading) -> Result<Reading, ReadFailure> {
        let possible = reading.reference >= self.built
            && reading.reference <= Utc::LATEST
            && reading.bound >= Nanos::ZERO
            && reading.raw <= now + Nanos::from_millis(1);
        if possible {
            Ok(reading)
        } else {
            Err(ReadFailure::Garbage)
        }
    }

    /// A reading of the source followed.
    fn track(&mut self, now: Raw, reading: Reading, actions: &mut Vec<Action>) {
        let steady = self.estimator.off_line(&reading).abs() <= Nanos(reading.bound.0 / 2);
        self.schedule.was_read(now, &reading.source, steady);
        let checked = self.trust(now, &reading.source) == Trust::Checked;
        if checked && self.suspicion.is_none() {
            self.estimator.unlearn_creep(&reading);
        }
        let deviation = if checked || !reading.source.is_immediate() {
            self.estimator.compare(&reading)
        } else {
            self.estimator.compare_closely(&reading)
        };
        // Where the reference may be elsewhere, a source that says so contradicts nothing.
        let elsewhere = self
            .contested
            .as_ref()
            .map_or(Nanos::ZERO, |_| self.contested(now));
        let deviation = deviation.map(|deviation| Deviation {
            allowed: deviation.allowed + elsewhere,
            ..deviation
        });
        match deviation {
            None => self.first_reading(now, reading, actions),
            Some(deviation) if deviation.exceeds() => {
                self.contradicted(now, &reading, deviation, actions);
            }
            Some(deviation) => self.agrees(now, &reading, deviation, actions),
        }
    }

    /// A reading that bounds and wander explain.
    fn agrees(
        &mut self,
        now: Raw,
        reading: &Reading,
        deviation: Deviation,
        actions: &mut Vec<Action>,
    ) {
        match self.agreement(now, reading, deviation) {
            None => {}
            Some(Agreement::Open) => {
                self.schedule.read = now + SMALL_INTERVAL;
                return;
            }
            Some(Agreement::Moved) => {
                let trust = self.trust(now, &reading.source);
                self.reference_moved(now, reading, trust, actions);
                return;
            }
            Some(Agreement::Outlier) => {
                self.suspicion = None;
                let why = "one reading stood alone; the next one contradicted it";
                self.ladder.outlier(&reading.source, why.into());
            }
            Some(Agreement::Undecided) => {
                self.suspicion = None;
                // Had the reference moved, what was known of its place would be no bound, and the
                // move would pass for a rate.
                self.estimator.jump(reading);
            }
        }
        self.take_in(now, reading, actions);
    }

    /// A source that is not followed has answered.
    fn probed(&mut self, now: Raw, reading: Reading, actions: &mut Vec<Action>) {
        let source = reading.source.clone();
        let was_false = self.ladder.is_falseticker(&source);
        let deviation = self.estimator.compare(&reading);
        let probe = Probe {
            at: reading.raw,
            deviation: self.estimator.off_line(&reading),
            bound: reading.bound,
        };
        let contradicts = deviation.is_some_and(|deviation| deviation.exceeds());
        let checked = self.trust(now, &source) == Trust::Checked;
        if (was_false && contradicts) || (checked && self.has_drifted(&source, &probe)) {
            let why = String::from("it contradicts what is known");
            self.ladder.mark_falseticker(&source, why, now);
            self.without_candidate(now, actions);
            return;
        }
        if !self.ladder.is_better(&source) {
            return;
        }
        let proven = self.ladder.probed(&reading, probe);
        let unopposed = self.ladder.followed().is_none() && !was_false;
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
            let explained =
                first.bound + probe.bound + self.estimator.expected_rate_error().over(elapsed);
            (probe.deviation - first.deviation).abs() > explained
        })
    }

    /// A source gave no reading, or none that can be true.
    fn read_failed(
        &mut self,
        now: Raw,
        source: &Source,
        why: ReadFailure,
        actions: &mut Vec<Action>,
    ) {
        let after = self.ladder.bad(source, why, now);
        if self.ladder.is_followed(source) {
            if after == AfterFailure::Lost {
                let alert = match why {
                    ReadFailure::Garbage => Alert::SourceLies,
                    _ => Alert::SourceLost,
                };
                self.drop_followed(now, alert, format!("{why}"), actions);
            } else if !source.is_immediate() {
                self.ask(source, now, actions);
            }
        } else if self.is_cross_checking() {
            self.cross_check(now, Some(source), actions);
        } else if self.ladder.followed().is_none() {
            self.try_candidate(now, actions);
            self.without_candidate(now, actions);
        }
    }
}
