//! Where the reference stands against `CLOCK_MONOTONIC_RAW`, and how far that can be wrong.
//!
//! RAW is the one guest clock that neither a step nor `adjtimex` can touch, so the reference is
//! modelled against it and not against the clock that is being corrected. With r RAW's time and
//! x = reference - r, over the window that is kept
//!
//! ```text
//! x(r) = x0 + y (r - r0) + wander
//! ```
//!
//! where y, the rate of the reference against RAW, is constant but for an oscillator's wander.
//!
//! **The point estimate** of both is a Kalman filter's ([`filter`]).
//!
//! **The bound** is kept apart from it and assumes no distribution. A reading says that x lies in
//! m ± b. Carried forward by dt, the interval's ends move with y and apart by ρ dt, where
//!
//! ```text
//! ρ = Φ + |y - ȳ| + 2 b / T        Φ = 15 ppm
//! ```
//!
//! Φ is RFC 5905's tolerance for what an oscillator may wander; ȳ is the mean rate between two
//! blocks T apart, each right to within b, and so known to within 2 b / T. The next reading's
//! interval is intersected with the carried one ([`interval`]): both hold the truth, so their
//! intersection does. If it is empty, the reference moved against RAW in a way no oscillator does,
//! or the reading is false; which of the two is not decided here.
//!
//! Φ is an oscillator's, though, and a host's clock may change its rate by more. Readings that are each
//! right to within b hide a change by Δ for up to 2 b / Δ, and the intersection is off by up to as much as
//! Δ - ρ makes of that time. So what is stated of a device that is read at every tick is no less than
//! m ± b of the last reading, which no change of rate makes untrue; what deviates is judged by the
//! intersection all the same, because that shows it sooner.
//!
//! **A host's clock is disciplined itself**, so that its rate changes at once, and by up to 10 %. A
//! reading off the line says that it was stepped or has changed its rate; which of the two, and what
//! the rate is now, is found by [`regime`]. As long as that is open its bound stands in the place of
//! the other terms of ρ.
//!
//! [`model`] puts them together.

mod filter;
mod interval;
mod model;
mod prediction;
mod regime;

use alloc::collections::VecDeque;

pub(crate) use filter::Pace;
pub(crate) use model::{ReadingSummary, Sighting};
pub(crate) use prediction::{Forecast, Prediction};
pub(crate) use regime::Finding;

use model::{Model, UNKNOWN_PPB, WANDER_PPB};
use noonmark_contract::sample::Reading;
use noonmark_contract::units::{Nanos, Ppb, Raw};

use crate::deviation::Deviation;

/// Time between two checkpoints. A drift that a checked source may not have is found within it.
const CHECKPOINT: Nanos = Nanos::from_secs(2);

/// The reference against RAW.
#[derive(Debug, Default)]
pub(crate) struct Estimator {
    model: Option<Model>,
    /// The model as it was one and two spans of [`CHECKPOINT`] ago, to go back to when the source
    /// turns out to be a falseticker: its last readings may have been false within their bounds.
    checkpoints: VecDeque<Checkpoint>,
}

#[derive(Debug)]
struct Checkpoint {
    at: Raw,
    model: Model,
}

impl Estimator {
    /// Where the reference is at `raw`; none before the first reading.
    pub fn predict(&self, raw: Raw) -> Option<Prediction> {
        self.model.as_ref().map(|model| model.predict(raw))
    }

    /// The estimate at `raw` and from there on; none before the first reading.
    pub fn forecast(&self, raw: Raw) -> Option<Forecast> {
        self.model.as_ref().map(|model| model.forecast(raw))
    }

    /// How far `reading` is from the interval expected for its instant; none before the first.
    pub fn compare(&self, reading: &Reading) -> Option<Deviation> {
        self.model.as_ref().map(|model| model.compare(reading))
    }

    /// The same for a source that is taken at its word, and can be read as often as is needed: also a
    /// reading that the interval explains, but that is off the line of the point estimate, deviates.
    pub fn compare_closely(&self, reading: &Reading) -> Option<Deviation> {
        let closely = |model: &Model| model.compare_closely(reading);
        self.model.as_ref().map(closely)
    }

    /// How far `reading` is from the point estimate's line, which unlike the interval does not move
    /// when a coarse source says more; zero before the first.
    pub fn off_line(&self, reading: &Reading) -> Nanos {
        let off = |model: &Model| model.off_line(reading);
        self.model.as_ref().map_or(Nanos::ZERO, off)
    }

    /// If `reading` contradicts what was known some seconds ago, though it may agree with what the
    /// readings since then have made of it, goes back to that: a drift by small steps.
    pub fn unlearn_creep(&mut self, reading: &Reading) {
        let contradicted = |c: &Checkpoint| c.model.compare(reading).exceeds();
        if let Some(at) = self.checkpoints.iter().position(contradicted) {
            self.checkpoints.drain(..at);
            self.unlearn();
        }
    }

    /// Takes in a reading that [`Estimator::compare`] found no fault with. Where the reference has left
    /// its line lately, gives in which way, as far as that can be told.
    pub fn follow(&mut self, reading: &Reading) -> Option<Finding> {
        self.keep_checkpoint(reading.raw);
        let Some(model) = &mut self.model else {
            self.restart(reading);
            return None;
        };
        model.take_reading(reading)
    }

    /// Takes in readings that were compared with a [`Forecast`] one by one.
    pub fn follow_summary(&mut self, summary: &ReadingSummary) {
        if let Some(model) = &mut self.model {
            model.take_summary(summary);
        }
    }

    /// Closes the running block and takes it into the estimate. Returns how long the next one
    /// should be.
    pub fn settle(&mut self) -> Pace {
        self.model.as_mut().map_or(Pace::Same, Model::settle)
    }

    /// The reference moved against RAW once, as after a pause, and `reading` says where to: keeps
    /// the rate and forgets the place.
    pub fn jump(&mut self, reading: &Reading) {
        self.checkpoints.clear();
        match &mut self.model {
            Some(model) => model.jump(reading),
            None => self.restart(reading),
        }
    }

    /// The machine was interrupted, so that what was known of the reference's place is void, though
    /// `reading`, which has been taken in, agrees with it: the bound is the reading's alone.
    pub fn forget_place(&mut self, reading: &Reading) {
        self.checkpoints.clear();
        if let Some(model) = &mut self.model {
            model.forget_place(reading);
        }
    }

    /// The reference left its line, as `first` says, and its place and rate are to be found anew: a
    /// new regime. `rate_is_void` says that the rate from before counts for nothing. Readings of this
    /// regime are to follow.
    pub fn begin_regime(&mut self, first: &Sighting, rate_is_void: bool) {
        self.checkpoints.clear();
        if let Some(model) = &mut self.model {
            model.begin_regime(first, rate_is_void);
        }
    }

    /// Whether a new regime is not yet understood.
    pub fn is_open(&self) -> bool {
        self.model.as_ref().is_some_and(Model::is_open)
    }

    /// Forgets everything but takes the last rate for a first guess: the reference, or the machine
    /// under it, is another one.
    pub fn restart(&mut self, reading: &Reading) {
        self.checkpoints.clear();
        self.model = Some(Model::new(reading, self.rate().0));
    }

    /// Goes back to what was known some seconds ago: what came since is not to be trusted.
    pub fn unlearn(&mut self) {
        if let Some(Checkpoint { mut model, .. }) = self.checkpoints.pop_front() {
            // What was being found out then was by what is not to be trusted now.
            model.give_up_regime();
            self.model = Some(model);
        }
        self.checkpoints.clear();
    }

    /// How long before `raw` the last reading was that the estimate has in it; after
    /// [`Estimator::unlearn`] that is some seconds.
    pub fn since_read(&self, raw: Raw) -> Nanos {
        let since = |model: &Model| model.since_read(raw);
        self.model.as_ref().map_or(Nanos::ZERO, since)
    }

    /// The rate that RAW has to be given to follow the reference.
    pub fn rate(&self) -> Ppb {
        Ppb(self.model.as_ref().map_or(0.0, Model::rate_ppb))
    }

    /// How far [`Estimator::rate`] can be wrong, wander aside.
    pub fn rate_error(&self) -> Ppb {
        let model = self.model.as_ref();
        Ppb(model.map_or(UNKNOWN_PPB, Model::rate_error_ppb))
    }

    /// How far an expectation drifts at most from what is read later, wander included.
    pub fn expected_rate_error(&self) -> Ppb {
        Ppb(self.rate_error().0 + WANDER_PPB)
    }

    /// Whether nothing has been measured of the rate yet.
    pub fn is_new(&self) -> bool {
        self.model.as_ref().is_some_and(Model::is_new)
    }

    /// How fast the rate has been changing, in ppb per second.
    pub fn drift_ppb_per_s(&self) -> f64 {
        self.model.as_ref().map_or(0.0, Model::drift_ppb_per_s)
    }

    fn keep_checkpoint(&mut self, now: Raw) {
        let is_due = |last: &Checkpoint| now - last.at >= CHECKPOINT;
        if let Some(model) = &self.model
            && self.checkpoints.back().is_none_or(is_due)
        {
            if self.checkpoints.len() == 2 {
                self.checkpoints.pop_front();
            }
            self.checkpoints.push_back(Checkpoint {
                at: now,
                model: model.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
