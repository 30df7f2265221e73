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
//! **The point estimate** of both is a Kalman filter's, see [`filter`].
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
//! interval is intersected with the carried one: both hold the truth, so their intersection does.
//! If it is empty, the reference moved against RAW in a way no oscillator does, or the reading is
//! false; who is right is not decided here.

mod filter;
mod outlook;

use alloc::collections::VecDeque;

use libm::fabs;

pub(crate) use filter::Pace;
use filter::{Block, Filter};
use noonmark_contract::sample::Reading;
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};

/// Blocks that are remembered for the mean rate.
const WINDOW: usize = 16;

/// Φ: how far the rate may wander from the estimate, in ppb.
pub(crate) const WANDER_PPB: f64 = 15_000.0;

/// The rate's uncertainty before anything was measured, in ppb. The kernel itself corrects no more
/// than this by frequency.
const UNKNOWN_PPB: f64 = 500_000.0;

/// Time between two checkpoints. A drift that a checked source may not have is found within it.
const CHECKPOINT: Nanos = Nanos::from_secs(2);

/// A reading with a wider bound than this says nothing of the rate. It still guards the bound, and
/// the estimate is kept within it.
const COARSE: Nanos = Nanos::from_millis(2);

/// The reference against RAW.
#[derive(Debug, Default)]
pub(crate) struct Estimator {
    model: Option<Model>,
    /// The model as it was one and two spans of [`CHECKPOINT`] ago, to go back to when the source
    /// turns out to have lied: its last readings may have been false within their bounds.
    checkpoints: VecDeque<Checkpoint>,
}

#[derive(Debug)]
struct Checkpoint {
    at: Raw,
    model: Model,
}

/// Where the reference is thought to be at an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Prediction {
    /// The most likely time.
    pub reference: Utc,
    /// The truth is no more than this before it.
    pub early: Nanos,
    /// The truth is no more than this after it.
    pub late: Nanos,
}

/// How a reading lies to what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deviation {
    /// Reading minus expectation.
    pub by: Nanos,
    /// What the bounds of both can explain.
    pub allowed: Nanos,
}

#[derive(Clone, Debug)]
struct Model {
    /// Time zero of the seconds below.
    origin: Raw,
    /// Reference minus RAW that the nanoseconds below count from.
    base: i64,
    open: Block,
    /// The last blocks, for the mean rate.
    blocks: VecDeque<Block>,
    filter: Filter,
    rate_error_ppb: f64,
    /// The rate from before the blocks remembered.
    known: Known,
    interval: Interval,
    drift_ppb_per_s: f64,
}

/// A rate, and the largest error that it can have.
#[derive(Clone, Copy, Debug)]
struct Known {
    rate_ppb: f64,
    error_ppb: f64,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    t: f64,
    low: f64,
    high: f64,
}

impl Prediction {
    /// The largest error of `reference`, either way.
    pub fn bound(&self) -> Nanos {
        self.early.max(self.late)
    }
}

impl Deviation {
    /// Whether the bounds cannot explain it.
    pub fn exceeds(&self) -> bool {
        self.by.abs() > self.allowed
    }
}

impl Estimator {
    /// Where the reference is at `raw`; none before the first reading.
    pub fn predict(&self, raw: Raw) -> Option<Prediction> {
        let model = self.model.as_ref()?;
        let t = model.seconds(raw);
        let interval = model.carried(t);
        let x = model.filter.x_at(t).clamp(interval.low, interval.high);
        Some(Prediction {
            reference: model.reference(raw, x),
            early: outward(x - interval.low),
            late: outward(interval.high - x),
        })
    }

    /// How `reading` lies to the interval expected for its instant; none before the first.
    pub fn compare(&self, reading: &Reading) -> Option<Deviation> {
        self.model.as_ref().map(|model| model.compare(reading))
    }

    /// How far `reading` lies from the point estimate's line, which unlike the interval does not move
    /// when a coarse source says more; zero before the first.
    pub fn off_line(&self, reading: &Reading) -> Nanos {
        self.model.as_ref().map_or(Nanos::ZERO, |model| {
            let expected = model.filter.x_at(model.seconds(reading.raw));
            reading.reference - model.reference(reading.raw, expected)
        })
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

    /// Takes in a reading that [`Estimator::compare`] found no fault with.
    pub fn follow(&mut self, reading: &Reading) {
        self.keep_checkpoint(reading.raw);
        let Some(model) = &mut self.model else {
            self.restart(reading);
            return;
        };
        let t = model.seconds(reading.raw);
        let x = model.x_of(reading);
        let bound = reading.bound.0.max(1) as f64;
        let carried = model.carried(t);
        model.interval = carried.intersected(x, bound);
        if !model.is_blurred_by(reading.bound, &carried) {
            model.open.add(t, x, bound, 1.0);
        }
    }

    /// Closes the running block and takes it into the estimate. Returns how long the next one
    /// should be.
    pub fn settle(&mut self) -> Pace {
        let Some(model) = &mut self.model else {
            return Pace::Same;
        };
        let block = core::mem::take(&mut model.open);
        if block.count == 0.0 {
            return Pace::Same;
        }
        if model.blocks.len() == WINDOW {
            model.blocks.pop_front();
        }
        model.blocks.push_back(block);
        let before = model.filter;
        let pace = model.filter.take_in(&block);
        model.rate_error_ppb = model.rate_error();
        let elapsed = block.t - before.t;
        if elapsed > 0.0 && model.blocks.len() > 3 {
            let drift = (model.filter.rate_ppb - before.rate_ppb) / elapsed;
            model.drift_ppb_per_s += (drift - model.drift_ppb_per_s) / 8.0;
        }
        pace
    }

    /// The reference moved against RAW once, as after a pause, and `reading` says where to: keeps
    /// the rate and forgets the place.
    pub fn jump(&mut self, reading: &Reading) {
        self.checkpoints.clear();
        let Some(model) = &mut self.model else {
            self.restart(reading);
            return;
        };
        let t = model.seconds(reading.raw);
        let moved = model.x_of(reading) - model.filter.x_at(t);
        model.base = model.base.saturating_add(libm::round(moved) as i64);
        let x = model.x_of(reading);
        let bound = reading.bound.0.max(1) as f64;
        model.open = Block::default();
        model.blocks.clear();
        model.known = Known {
            rate_ppb: model.filter.rate_ppb,
            error_ppb: model.rate_error_ppb,
        };
        model.filter.replace(t, x, bound);
        model.interval = Interval::around(t, x, reading.bound);
    }

    /// Forgets everything but takes the last rate for a first guess: the reference, or the machine
    /// under it, is another one.
    pub fn restart(&mut self, reading: &Reading) {
        self.checkpoints.clear();
        let prior_ppb = self
            .model
            .as_ref()
            .map_or(0.0, |model| model.filter.rate_ppb);
        self.model = Some(Model::new(reading, prior_ppb));
    }

    /// Goes back to what was known some seconds ago: what came since is not to be trusted.
    pub fn unlearn(&mut self) {
        if let Some(checkpoint) = self.checkpoints.pop_front() {
            self.model = Some(checkpoint.model);
        }
        self.checkpoints.clear();
    }

    /// The rate that RAW has to be given to follow the reference.
    pub fn rate(&self) -> Ppb {
        Ppb(self
            .model
            .as_ref()
            .map_or(0.0, |model| model.filter.rate_ppb))
    }

    /// How far [`Estimator::rate`] can be wrong, wander aside.
    pub fn rate_error(&self) -> Ppb {
        Ppb(self
            .model
            .as_ref()
            .map_or(UNKNOWN_PPB, |model| model.rate_error_ppb))
    }

    /// How fast the rate has been changing, in ppb per second.
    pub fn drift_ppb_per_s(&self) -> f64 {
        self.model.as_ref().map_or(0.0, |m| m.drift_ppb_per_s)
    }
}

impl Estimator {
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

impl Model {
    fn new(reading: &Reading, prior_ppb: f64) -> Self {
        let bound = reading.bound.0.max(1) as f64;
        Self {
            origin: reading.raw,
            base: reading.reference.0.saturating_sub(reading.raw.0),
            open: Block::default(),
            blocks: VecDeque::with_capacity(WINDOW),
            filter: Filter::new(prior_ppb, bound),
            rate_error_ppb: UNKNOWN_PPB,
            known: Known {
                rate_ppb: prior_ppb,
                error_ppb: UNKNOWN_PPB,
            },
            interval: Interval::around(0.0, 0.0, reading.bound),
            drift_ppb_per_s: 0.0,
        }
    }

    fn seconds(&self, raw: Raw) -> f64 {
        (raw - self.origin).as_secs_f64()
    }

    /// x of a reading, counted from `base`. The subtraction is exact; only the small rest of it
    /// becomes a float.
    fn x_of(&self, reading: &Reading) -> f64 {
        let difference = reading.reference.0.saturating_sub(reading.raw.0);
        difference.saturating_sub(self.base) as f64
    }

    fn reference(&self, raw: Raw, x: f64) -> Utc {
        let difference = self.base.saturating_add(libm::round(x) as i64);
        Utc(raw.0.saturating_add(difference))
    }

    fn compare(&self, reading: &Reading) -> Deviation {
        let interval = self.carried(self.seconds(reading.raw));
        let middle = (interval.low + interval.high) / 2.0;
        let half = (interval.high - interval.low) / 2.0;
        let expected = self.reference(reading.raw, middle);
        Deviation {
            by: reading.reference - expected,
            allowed: outward(half) + reading.bound,
        }
    }

    fn carried(&self, t: f64) -> Interval {
        self.interval
            .carried(t, self.filter.rate_ppb, self.spread_ppb())
    }

    /// ρ.
    fn spread_ppb(&self) -> f64 {
        WANDER_PPB + self.rate_error_ppb
    }

    /// Whether a reading is so much coarser than what is known already that it guards the bound,
    /// but would only blur the estimate.
    fn is_blurred_by(&self, bound: Nanos, known: &Interval) -> bool {
        let blurs = bound.0.max(1) as f64 > 8.0 * (known.high - known.low);
        bound > COARSE || blurs
    }

    /// |y - ȳ| + 2 b / T over the blocks remembered, or what was known before them, if better.
    fn rate_error(&self) -> f64 {
        let rate = self.filter.rate_ppb;
        let before = fabs(rate - self.known.rate_ppb) + self.known.error_ppb;
        let (Some(first), Some(last)) = (self.blocks.front(), self.blocks.back()) else {
            return before;
        };
        let span = last.t - first.t;
        if span <= 0.0 {
            return before;
        }
        let mean = (last.x - first.x) / span;
        before.min(fabs(rate - mean) + (first.bound + last.bound) / span)
    }
}

impl Interval {
    fn around(t: f64, x: f64, bound: Nanos) -> Self {
        let bound = bound.0.max(1) as f64;
        Self {
            t,
            low: x - bound,
            high: x + bound,
        }
    }

    /// The interval at another time: moved with the rate, and wider by ρ dt at each end.
    fn carried(&self, t: f64, rate_ppb: f64, spread_ppb: f64) -> Self {
        let dt = t - self.t;
        let moved = rate_ppb * dt;
        let wider = spread_ppb * fabs(dt);
        Self {
            t,
            low: self.low + moved - wider,
            high: self.high + moved + wider,
        }
    }

    /// What this and x ± bound have in common; the latter alone, if nothing.
    fn intersected(&self, x: f64, bound: f64) -> Self {
        let (low, high) = (self.low.max(x - bound), self.high.min(x + bound));
        let (low, high) = if low <= high {
            (low, high)
        } else {
            (x - bound, x + bound)
        };
        Self {
            t: self.t,
            low,
            high,
        }
    }
}

/// A half-width in whole nanoseconds, rounded outward.
fn outward(width: f64) -> Nanos {
    Nanos((libm::ceil(width) as i64).max(0).saturating_add(1))
}

#[cfg(test)]
mod tests;
