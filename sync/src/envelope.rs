//! The envelope of a quiet clock: the lines on which the reference and the clock are expected for
//! the next [`HORIZON`], and the glances that found them there.
//!
//! Nearly every watch tick finds the reference and the clock where they were expected, and all
//! that the engine makes of it is the next tick. A glance proves just that, with a few whole
//! numbers: a reading that lies on both lines needs nothing else. Whatever does not is left to a
//! full look, which reads again.
//!
//! A glance never sees less than a full look would: it allows a reading no more than the estimator
//! does, and the clock far less ([`ON_LINE`]), so that a foreign rate is noticed no later.
//!
//! ```text
//! low - b <= reference - RAW - (x0 + y dt) <= high + b          b: the bound of the reading
//! |reference - RAW - (x0 + y dt)| <= ON_LINE + (high - low) / 2 + b, as the two were at first
//! |REALTIME - RAW - (R0 + f dt)| <= ON_LINE + bounds of the two pairings, and < room
//! ```
//!
//! where [low, high] is the estimator's interval, which each glance narrows as a full look would, and
//! the room is what is left of `step` if the offset grows by all that rates and wander allow. What
//! glances have read goes into the estimate: the mean into its running block, and the interval.

use libm::{ceil, fabs, round};
use noonmark_contract::sample::{Local, Reading};
use noonmark_contract::units::{Nanos, Raw, Utc};

use crate::discipline::{ClockForecast, guest_clocks};
use crate::estimator::{Forecast, Prediction, ReadingSummary};
use crate::ladder::GoodReading;

/// For how long after a full look glances may do.
pub(crate) const HORIZON: Nanos = Nanos::from_millis(200);

/// How far a clock, or the reference, may be off its line for a glance to pass it. What is more,
/// though too little to be called a disturbance, is for a full look to take in, so that the stated
/// bound includes it, and a new rate of the reference is noticed.
const ON_LINE: Nanos = Nanos(100);

/// What rounding to whole nanoseconds can add up to on either side of a comparison.
const ROUNDING: Nanos = Nanos(2);

/// Slopes count in this many parts of one: over [`HORIZON`], one is 0.05 ns, and the product of the
/// steepest slope (500 ppm and the tick's 10 %) with a whole second fits.
const SLOPE_SCALE: f64 = 4_294_967_296.0;

/// What the engine's settings and schedule allow glances.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// When a full look is due in any case.
    pub until: Raw,
    /// What the clock's offset may still grow by.
    pub room: Nanos,
    /// Time between two ticks.
    pub watch: Nanos,
    /// Whether the guest's own clocks are all that glances read: the source is a slow one.
    pub is_local: bool,
}

/// What is expected until `until`, and what the glances since have found.
#[derive(Debug)]
pub(crate) struct Envelope {
    origin: Raw,
    until: Raw,
    watch: Nanos,
    /// Reference minus RAW, by the middle of the estimator's interval as it was at the origin.
    reference: FixedLine,
    /// That interval, counted from the line.
    interval: FixedInterval,
    /// Half its width as it was at the origin.
    half: Nanos,
    /// REALTIME minus RAW.
    clock: FixedLine,
    /// The pairing of the clock's line.
    noise: Nanos,
    /// What the clock may be off its line without being wrong.
    room: Nanos,
    is_local: bool,
    tally: Tally,
}

/// A straight line in fixed point over the time since the envelope's origin.
#[derive(Clone, Copy, Debug)]
struct FixedLine {
    base: i64,
    slope: i64,
}

/// Where the reference can be; carried on, each end moves out by the spread.
#[derive(Clone, Copy, Debug)]
struct FixedInterval {
    /// Since the origin.
    at: Nanos,
    low: Nanos,
    high: Nanos,
    spread: FixedLine,
}

/// What glances found.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    count: i64,
    /// The last one's instant, offset, and distance of the clock from its line.
    at: Raw,
    offset: Nanos,
    strayed: Nanos,
    /// Sums over all of them: time since the origin, deviation from the reference's line.
    elapsed_ns: i64,
    deviation_ns: i64,
    bound: Nanos,
    /// What the last one said: how far off the reference's line, and to what.
    last: Nanos,
    last_bound: Nanos,
}

impl Envelope {
    /// What a quiet future looks like by the two forecasts, which are of one instant.
    pub fn new(clock: &ClockForecast, reference: &Forecast, limits: Limits) -> Self {
        let origin = clock.local.raw;
        let horizon = HORIZON.as_secs_f64();
        let drift = fabs(reference.rate_ppb - clock.rate_ppb) + reference.spread_ppb;
        let room = limits.room - Nanos(ceil(drift * horizon) as i64) - ROUNDING;
        let half = Nanos(ceil(reference.half_ns) as i64 + 1);
        Self {
            origin,
            until: (origin + HORIZON).min(limits.until),
            watch: limits.watch,
            reference: FixedLine::new(reference.difference, reference.rate_ppb),
            interval: FixedInterval {
                at: Nanos::ZERO,
                low: -half,
                high: half,
                spread: FixedLine::new(1, reference.spread_ppb),
            },
            half,
            clock: FixedLine::new(clock.local.realtime.0 - origin.0, clock.rate_ppb),
            noise: clock.local.bound,
            room,
            is_local: limits.is_local,
            tally: Tally::default(),
        }
    }

    /// Whether glances may do at `now`.
    pub fn lasts(&self, now: Raw) -> bool {
        now < self.until
    }

    /// Whether glances read the guest's own clocks alone.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// When to look next, if `reading` is as expected; else a full look is due now.
    pub fn glance(&mut self, reading: &Reading) -> Option<Raw> {
        let elapsed = self.elapsed(reading.raw)?;
        let difference = reading.reference.0.saturating_sub(reading.raw.0);
        let deviation = Nanos(difference.saturating_sub(self.reference.at(elapsed)));
        let interval = self.interval.carried(elapsed);
        let on_line = deviation.abs() <= ON_LINE + self.half + reading.bound;
        if self.is_local || !on_line || !interval.explains(deviation, reading.bound) {
            return None;
        }
        let strayed = self.off_line(&guest_clocks(reading), elapsed)?;
        self.interval = interval.narrowed(deviation, reading.bound);
        let tally = &mut self.tally;
        tally.offset = reading.offset();
        tally.elapsed_ns = tally.elapsed_ns.saturating_add(elapsed.0);
        tally.deviation_ns = tally.deviation_ns.saturating_add(deviation.0);
        tally.bound = tally.bound.max(reading.bound);
        (tally.last, tally.last_bound) = (deviation, reading.bound);
        Some(self.pass(reading.raw, strayed))
    }

    /// The same by the guest's own clocks.
    pub fn glance_local(&mut self, local: &Local) -> Option<Raw> {
        let elapsed = self.elapsed(local.raw)?;
        let strayed = self.off_line(local, elapsed)?;
        Some(self.pass(local.raw, strayed))
    }

    /// When the last glance was.
    pub fn last_glance(&self) -> Option<Raw> {
        (self.tally.count > 0).then_some(self.tally.at)
    }

    /// How far the clock was off its line at the last glance.
    pub fn strayed(&self) -> Nanos {
        self.tally.strayed
    }

    /// How many readings of the source glances have taken, and the last of them.
    pub fn readings(&self) -> Option<(u64, GoodReading)> {
        let tally = &self.tally;
        let last = GoodReading {
            at: tally.at,
            offset: tally.offset,
            bound: tally.bound,
        };
        (tally.count > 0 && !self.is_local).then_some((tally.count as u64, last))
    }

    /// Those readings, for the estimator.
    pub fn summary(&self) -> Option<ReadingSummary> {
        let (count, _) = self.readings()?;
        let tally = &self.tally;
        let elapsed = Nanos(tally.elapsed_ns / tally.count);
        let last = self.reference.at(self.interval.at);
        Some(ReadingSummary {
            at: self.origin + elapsed,
            difference: self.reference.at(elapsed),
            rest_ns: tally.deviation_ns as f64 / count as f64,
            count: count as f64,
            bound: tally.bound,
            last: tally.at,
            low: last.saturating_add(self.interval.low.0),
            high: last.saturating_add(self.interval.high.0),
            last_difference: last.saturating_add(tally.last.0),
            last_bound: tally.last_bound,
        })
    }

    /// What the readings since leave of a prediction for `now`.
    pub fn narrow(&self, now: Raw, prediction: &Prediction) -> Prediction {
        let elapsed = now - self.origin;
        let interval = self.interval.carried(elapsed);
        let line = Utc(now.0.saturating_add(self.reference.at(elapsed)));
        let (low, high) = (line + interval.low, line + interval.high);
        let reference = prediction.reference.max(low).min(high);
        // And what the last one says by itself, as [`crate::estimator`] has it.
        let latest = self.interval.around(self.tally.last, self.tally.last_bound);
        let latest = latest.carried(elapsed);
        let (low, high) = (low.min(line + latest.low), high.max(line + latest.high));
        Prediction {
            reference,
            early: reference - low,
            late: high - reference,
        }
    }

    /// Time since the origin; none where the envelope does not reach.
    fn elapsed(&self, raw: Raw) -> Option<Nanos> {
        (raw >= self.origin && raw < self.until).then(|| raw - self.origin)
    }

    /// How far the clock is off its line; none if that is worth a full look.
    fn off_line(&self, local: &Local, elapsed: Nanos) -> Option<Nanos> {
        let difference = local.realtime.0.saturating_sub(local.raw.0);
        let strayed = Nanos(difference.saturating_sub(self.clock.at(elapsed)));
        let on_line = strayed.abs() <= ON_LINE + self.noise + local.bound;
        (on_line && strayed.abs() < self.room).then_some(strayed)
    }

    fn pass(&mut self, at: Raw, strayed: Nanos) -> Raw {
        self.tally.count += 1;
        (self.tally.at, self.tally.strayed) = (at, strayed);
        at + self.watch
    }
}

impl FixedLine {
    /// `ppb` is its slope; `base_ns` its value at the origin.
    fn new(base_ns: i64, ppb: f64) -> Self {
        Self {
            base: base_ns,
            slope: round(ppb / 1e9 * SLOPE_SCALE) as i64,
        }
    }

    fn at(&self, elapsed: Nanos) -> i64 {
        self.base
            .saturating_add(elapsed.0.saturating_mul(self.slope) >> 32)
    }
}

impl FixedInterval {
    /// At another time, later as a rule; rounded outward.
    fn carried(&self, at: Nanos) -> Self {
        let wider = Nanos(self.spread.at((at - self.at).abs()));
        Self {
            at,
            low: self.low - wider,
            high: self.high + wider,
            spread: self.spread,
        }
    }

    /// What a reading that was taken when this was so says by itself.
    fn around(&self, deviation: Nanos, bound: Nanos) -> Self {
        let bound = bound + Nanos(1);
        Self {
            low: deviation - bound,
            high: deviation + bound,
            ..*self
        }
    }

    /// Whether a reading can be this far off the line.
    fn explains(&self, deviation: Nanos, bound: Nanos) -> bool {
        let allowed = bound - ROUNDING;
        self.low - allowed <= deviation && deviation <= self.high + allowed
    }

    /// What this and a reading that it explains have in common; rounded outward.
    fn narrowed(&self, deviation: Nanos, bound: Nanos) -> Self {
        let bound = bound + Nanos(1);
        let (low, high) = (deviation - bound, deviation + bound);
        Self {
            low: self.low.max(low).min(high),
            high: self.high.min(high).max(low),
            ..*self
        }
    }
}
