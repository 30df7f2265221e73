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
//! **The point estimate.** Readings m_i with pairing bound b_i are averaged into blocks. Taking
//! b_i / 2 for the standard deviation of a block, hence weights w_i = 4 / b_i², and a prior
//! y ~ N(y', s²) from before the window (y' = 0 at boot), the most likely line has, with t̄ and x̄
//! the weighted means and S = Σ w_i (t_i - t̄)²,
//!
//! ```text
//! α = S / (S + 1/s²)      y = α Σ w_i (t_i - t̄)(x_i - x̄) / S + (1 - α) y'      x(t̄) = x̄
//! ```
//!
//! The prior keeps a coarse source's first blocks, a few ms apart, from making up a rate.
//!
//! **The bound** is kept apart from it and assumes no distribution. A reading says that x lies in
//! m ± b. Carried forward by dt, the interval's ends move with y and apart by ρ dt, where
//!
//! ```text
//! ρ = Φ + α 3 b / T + (1 - α) E      Φ = 15 ppm, E = 500 ppm
//! ```
//!
//! Φ is RFC 5905's tolerance for what an oscillator may wander; 3 b / T is the largest slope error
//! of a least-squares line whose points, spread over T, each err by at most b; E is what nothing
//! but the prior vouches for. The next reading's interval is intersected with the carried one: both
//! hold the truth, so their intersection does. If it is empty, the reference moved against RAW in a
//! way no oscillator does, or the reading is false; who is right is not decided here.

use alloc::collections::VecDeque;

use libm::{fabs, sqrt};

use crate::sample::Reading;
use crate::units::{Nanos, Ppb, Raw, Utc};

/// Blocks that the line is fitted to, at most.
const WINDOW: usize = 32;

/// Φ: how far the rate may wander from the line's, in ppb.
pub(crate) const WANDER_PPB: f64 = 15_000.0;

/// E: the rate's uncertainty before anything was measured, in ppb. The kernel itself corrects no
/// more than this by frequency.
const UNKNOWN_PPB: f64 = 500_000.0;

/// s: the prior's standard deviation, in ppb. Crystals and calibrations are within 100 ppm.
const PRIOR_PPB: f64 = 100_000.0;

/// Residuals below this are rounding, in ns.
const RESIDUAL_FLOOR_NS: f64 = 1.0;

/// A block this many standard deviations off the line does not fit it.
const MISFIT: f64 = 4.0;

/// The reference against RAW.
#[derive(Debug, Default)]
pub(crate) struct Estimator {
    model: Option<Model>,
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

#[derive(Debug)]
struct Model {
    /// Time zero of the seconds below.
    origin: Raw,
    /// Reference minus RAW that the nanoseconds below count from.
    base: i64,
    blocks: VecDeque<Block>,
    open: Block,
    line: Line,
    interval: Interval,
    prior_ppb: f64,
    misfits: i32,
    drift_ppb_per_s: f64,
}

/// The mean of neighbouring readings.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    t: f64,
    x: f64,
    count: f64,
    bound: f64,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    t: f64,
    x: f64,
    rate_ppb: f64,
    rate_error_ppb: f64,
    residual_ns: f64,
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
        let interval = model.interval.carried(t, &model.line);
        let x = model.x(t).clamp(interval.low, interval.high);
        Some(Prediction {
            reference: model.reference(raw, x),
            early: outward(x - interval.low),
            late: outward(interval.high - x),
        })
    }

    /// How `reading` lies to the interval expected for its instant; none before the first.
    pub fn compare(&self, reading: &Reading) -> Option<Deviation> {
        let model = self.model.as_ref()?;
        let t = model.seconds(reading.raw);
        let interval = model.interval.carried(t, &model.line);
        let middle = (interval.low + interval.high) / 2.0;
        let half = (interval.high - interval.low) / 2.0;
        let expected = model.reference(reading.raw, middle);
        Some(Deviation {
            by: reading.reference - expected,
            allowed: outward(half) + reading.bound,
        })
    }

    /// Takes in a reading that [`Estimator::compare`] found no fault with.
    pub fn follow(&mut self, reading: &Reading) {
        let Some(model) = &mut self.model else {
            self.restart(reading);
            return;
        };
        let t = model.seconds(reading.raw);
        let x = model.x_of(reading);
        let bound = reading.bound.0.max(1) as f64;
        let carried = model.interval.carried(t, &model.line);
        model.interval = carried.intersected(x, bound);
        // A reading much coarser than what is known already guards the bound, but would only
        // blur the line.
        if bound < 8.0 * (carried.high - carried.low) || model.line_is_bare() {
            model.open.add(t, x, bound);
        }
    }

    /// Closes the running block and fits the line anew. Returns whether the newest block agreed
    /// with the line before it; none if there was no new block.
    pub fn settle(&mut self) -> Option<bool> {
        let model = self.model.as_mut()?;
        let block = core::mem::take(&mut model.open);
        if block.count == 0.0 {
            return None;
        }
        let fits = model.check_fit(&block);
        if model.blocks.len() == WINDOW {
            model.blocks.pop_front();
        }
        model.blocks.push_back(block);
        model.refit();
        Some(fits)
    }

    /// The reference moved against RAW once, as after a pause, and `reading` says where to: keeps
    /// the rate and forgets the place.
    pub fn jump(&mut self, reading: &Reading) {
        let Some(model) = &mut self.model else {
            self.restart(reading);
            return;
        };
        let t = model.seconds(reading.raw);
        let moved = model.x_of(reading) - model.x(t);
        model.base = model.base.saturating_add(moved as i64);
        let x = model.x_of(reading);
        model.open = Block::default();
        model.line.x += x - model.x(t);
        model.interval = Interval::around(t, x, reading.bound);
    }

    /// Forgets everything but takes the last rate for a first guess: the reference, or the machine
    /// under it, is another one.
    pub fn restart(&mut self, reading: &Reading) {
        let prior_ppb = self.model.as_ref().map_or(0.0, |model| model.line.rate_ppb);
        self.model = Some(Model::new(reading, prior_ppb));
    }

    /// The rate that RAW has to be given to follow the reference.
    pub fn rate(&self) -> Ppb {
        Ppb(self.model.as_ref().map_or(0.0, |model| model.line.rate_ppb))
    }

    /// How far [`Estimator::rate`] can be wrong, wander aside.
    pub fn rate_error(&self) -> Ppb {
        Ppb(self
            .model
            .as_ref()
            .map_or(UNKNOWN_PPB, |model| model.line.rate_error_ppb))
    }

    /// How fast the rate has been changing, in ppb per second.
    pub fn drift_ppb_per_s(&self) -> f64 {
        self.model.as_ref().map_or(0.0, |m| m.drift_ppb_per_s)
    }
}

impl Model {
    fn new(reading: &Reading, prior_ppb: f64) -> Self {
        let bound = reading.bound.0.max(1) as f64;
        let mut open = Block::default();
        open.add(0.0, 0.0, bound);
        Self {
            origin: reading.raw,
            base: reading.reference.0.saturating_sub(reading.raw.0),
            blocks: VecDeque::with_capacity(WINDOW),
            open,
            line: Line {
                t: 0.0,
                x: 0.0,
                rate_ppb: prior_ppb,
                rate_error_ppb: UNKNOWN_PPB,
                residual_ns: bound,
            },
            interval: Interval::around(0.0, 0.0, reading.bound),
            prior_ppb,
            misfits: 0,
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

    fn x(&self, t: f64) -> f64 {
        self.line.x + self.line.rate_ppb * (t - self.line.t)
    }

    fn reference(&self, raw: Raw, x: f64) -> Utc {
        let difference = self.base.saturating_add(libm::round(x) as i64);
        Utc(raw.0.saturating_add(difference))
    }

    /// Whether the line has not been fitted to anything yet.
    fn line_is_bare(&self) -> bool {
        self.blocks.is_empty() && self.open.count == 0.0
    }

    /// Whether `block` lies on the line. Two misfits in a row, on the same side, mean that the
    /// rate has changed: the older half of the window is then no longer true and goes.
    fn check_fit(&mut self, block: &Block) -> bool {
        if self.blocks.len() < 3 {
            return true;
        }
        let residual = block.x - self.x(block.t);
        if fabs(residual) <= MISFIT * self.line.residual_ns.max(RESIDUAL_FLOOR_NS) {
            self.misfits = 0;
            return true;
        }
        let side = if residual > 0.0 { 1 } else { -1 };
        self.misfits = if self.misfits * side > 0 {
            self.misfits + side
        } else {
            side
        };
        if self.misfits.abs() >= 2 {
            self.misfits = 0;
            self.blocks.drain(..self.blocks.len() / 2);
        }
        false
    }

    /// The line of the module's header.
    fn refit(&mut self) {
        let weight = |block: &Block| 4.0 / (block.bound * block.bound);
        let total: f64 = self.blocks.iter().map(weight).sum();
        let mean = |value: fn(&Block) -> f64| {
            let sum: f64 = self.blocks.iter().map(|b| weight(b) * value(b)).sum();
            sum / total
        };
        let (t, x) = (mean(|b| b.t), mean(|b| b.x));
        let (mut spread, mut product, mut widest) = (0.0, 0.0, 0.0_f64);
        for block in &self.blocks {
            spread += weight(block) * (block.t - t) * (block.t - t);
            product += weight(block) * (block.t - t) * (block.x - x);
            widest = widest.max(block.bound);
        }
        let certainty = 1.0 / (PRIOR_PPB * PRIOR_PPB);
        let alpha = spread / (spread + certainty);
        let rate_ppb = (product + certainty * self.prior_ppb) / (spread + certainty);
        let length = self.newest().t - self.oldest().t;
        let measured = if length > 0.0 {
            3.0 * widest / length
        } else {
            UNKNOWN_PPB
        };
        let before = self.line;
        self.line = Line {
            t,
            x,
            rate_ppb,
            rate_error_ppb: (alpha * measured + (1.0 - alpha) * UNKNOWN_PPB)
                .min(UNKNOWN_PPB + fabs(rate_ppb - self.prior_ppb)),
            residual_ns: before.residual_ns,
        };
        self.line.residual_ns = self.residual();
        let elapsed = t - before.t;
        if elapsed > 0.0 && self.blocks.len() > 3 {
            let drift = (rate_ppb - before.rate_ppb) / elapsed;
            self.drift_ppb_per_s += (drift - self.drift_ppb_per_s) / 8.0;
        }
    }

    /// Standard deviation of the blocks from the line.
    fn residual(&self) -> f64 {
        let count = self.blocks.len();
        if count < 3 {
            return self.newest().bound;
        }
        let sum: f64 = self
            .blocks
            .iter()
            .map(|block| block.x - self.x(block.t))
            .map(|residual| residual * residual)
            .sum();
        sqrt(sum / (count - 2) as f64)
    }

    fn newest(&self) -> Block {
        self.blocks.back().copied().unwrap_or_default()
    }

    fn oldest(&self) -> Block {
        self.blocks.front().copied().unwrap_or_default()
    }
}

impl Block {
    /// Adds a reading to the running mean.
    fn add(&mut self, t: f64, x: f64, bound: f64) {
        self.count += 1.0;
        self.t += (t - self.t) / self.count;
        self.x += (x - self.x) / self.count;
        self.bound = self.bound.max(bound);
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

    /// The interval at another time: moved along the line, and wider by ρ dt at each end.
    fn carried(&self, t: f64, line: &Line) -> Self {
        let dt = t - self.t;
        let moved = line.rate_ppb * dt;
        let wider = (WANDER_PPB + line.rate_error_ppb) * fabs(dt);
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
