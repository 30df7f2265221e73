//! The reference against RAW: a line with its error, fed with readings.

use alloc::collections::VecDeque;

use libm::fabs;
use noonmark_contract::sample::{Method, Reading};
use noonmark_contract::units::{Nanos, Raw, Utc};

use crate::deviation::Deviation;

use super::filter::{Block, Filter, Pace};
use super::interval::{Interval, half_width};
use super::prediction::{Forecast, Prediction};
use super::regime::{Departure, Finding, HOST_MOST_PPB, KnownRate, Point, Regime};

/// Blocks that are remembered for the mean rate.
const WINDOW: usize = 16;

/// Φ: how far the rate may wander from the estimate, in ppb.
pub(super) const WANDER_PPB: f64 = 15_000.0;

/// The rate's uncertainty before anything was measured, in ppb. The kernel itself corrects no more
/// than this by frequency.
pub(super) const UNKNOWN_PPB: f64 = 500_000.0;

/// A reading with a wider bound than this says nothing of the rate. It still guards the bound, and
/// the estimate is kept within it.
const COARSE: Nanos = Nanos::from_millis(2);

/// How far a reading of a source that is taken at its word may be off the point estimate's line
/// before the rate is measured anew: this, and so many standard deviations, beyond its bound.
const OFF_LINE_NS: f64 = 100.0;
const OFF_LINE_DEVIATIONS: f64 = 5.0;

/// A change of the rate below this is the oscillator's wander, in ppb.
const WANDER_CHANGE_PPB: f64 = 2_000.0;

/// Several readings in one: their mean, and the interval that they leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadingSummary {
    /// The mean's instant.
    pub at: Raw,
    /// The mean of reference minus RAW: whole nanoseconds, and the rest.
    pub difference: i64,
    pub rest_ns: f64,
    pub count: f64,
    pub bound: Nanos,
    /// The last reading's instant, and between what reference minus RAW was then.
    pub last: Raw,
    pub low: i64,
    pub high: i64,
    /// What that last reading says by itself.
    pub last_difference: i64,
    pub last_bound: Nanos,
}

/// Where the reference was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub raw: Raw,
    /// Reference minus RAW.
    pub difference: i64,
    pub bound: Nanos,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
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
    known: KnownRate,
    interval: Interval,
    /// What the last reading says by itself, which no change of the reference's rate makes untrue; of a
    /// device that is read at every tick. What is read more seldom is bounded as NTP's servers are, by
    /// what an oscillator wanders (RFC 5905's dispersion).
    latest: Option<Interval>,
    /// When the last reading was, in seconds.
    read: f64,
    /// Set while it is open how the reference left its line.
    regime: Option<Regime>,
    drift_ppb_per_s: f64,
}

impl Sighting {
    pub fn in_reading(reading: &Reading) -> Self {
        Self {
            raw: reading.raw,
            difference: reading.reference.0.saturating_sub(reading.raw.0),
            bound: reading.bound,
        }
    }
}

impl Model {
    /// A model that has seen one reading and takes `prior_ppb` for a first guess of the rate. The RTC's
    /// middle is no likelier than the rest of its interval, so a clock that lies in that is taken for
    /// right: to slew it there would make its rate wrong for seconds and its time no better.
    pub fn new(reading: &Reading, prior_ppb: f64) -> Self {
        let found = (reading.realtime - reading.reference).0 as f64;
        let may_be_right = fabs(found) <= half_width(reading.bound);
        let mut filter = Filter::new(prior_ppb, half_width(reading.bound));
        if reading.method == Method::Rtc && may_be_right {
            filter.x = found;
        }
        Self {
            origin: reading.raw,
            base: reading.reference.0.saturating_sub(reading.raw.0),
            open: Block::default(),
            blocks: VecDeque::with_capacity(WINDOW),
            filter,
            rate_error_ppb: UNKNOWN_PPB,
            known: KnownRate {
                rate_ppb: prior_ppb,
                error_ppb: UNKNOWN_PPB,
            },
            interval: Interval::around(0.0, 0.0, reading.bound),
            latest: latest(reading, 0.0, 0.0),
            read: 0.0,
            regime: None,
            drift_ppb_per_s: 0.0,
        }
    }

    pub fn rate_ppb(&self) -> f64 {
        self.filter.rate_ppb
    }

    /// How far the rate can be wrong, wander aside.
    pub fn rate_error_ppb(&self) -> f64 {
        self.rate_error_ppb
    }

    pub fn drift_ppb_per_s(&self) -> f64 {
        self.drift_ppb_per_s
    }

    pub fn predict(&self, raw: Raw) -> Prediction {
        let t = self.seconds(raw);
        let interval = self.carried(t);
        let x = self.filter.x_at(t).clamp(interval.low, interval.high);
        let interval = self.certain(&interval);
        Prediction {
            reference: self.reference(raw, x),
            early: outward(x - interval.low),
            late: outward(interval.high - x),
        }
    }

    pub fn forecast(&self, raw: Raw) -> Forecast {
        let interval = self.carried(self.seconds(raw));
        Forecast {
            reference: self.predict(raw).reference,
            difference: (self.reference(raw, interval.middle()) - Utc(raw.0)).0,
            half_ns: interval.half(),
            rate_ppb: self.filter.rate_ppb,
            spread_ppb: self.spread_ppb(),
        }
    }

    /// How long before `raw` the last reading was.
    pub fn since_read(&self, raw: Raw) -> Nanos {
        let since = self.seconds(raw) - self.read;
        Nanos((since.max(0.0) * 1e9) as i64)
    }

    /// How far `reading` is from the interval expected for its instant.
    pub fn compare(&self, reading: &Reading) -> Deviation {
        let interval = self.carried(self.seconds(reading.raw));
        let expected = self.reference(reading.raw, interval.middle());
        Deviation {
            by: reading.reference - expected,
            allowed: outward(interval.half()) + reading.bound,
        }
    }

    /// The same, and how far it is from the point estimate's line, whichever allows less.
    pub fn compare_closely(&self, reading: &Reading) -> Deviation {
        let by_interval = self.compare(reading);
        let off_line = self.off_line(reading);
        let deviation = self.filter.deviation_at(self.seconds(reading.raw));
        let allowed = OFF_LINE_NS + OFF_LINE_DEVIATIONS * deviation;
        let by_line = Deviation {
            by: off_line,
            allowed: outward(allowed) + reading.bound,
        };
        if self.regime.is_none() && by_line.exceeds() && !by_interval.exceeds() {
            by_line
        } else {
            by_interval
        }
    }

    /// How far `reading` is from the point estimate's line.
    pub fn off_line(&self, reading: &Reading) -> Nanos {
        let expected = self.filter.x_at(self.seconds(reading.raw));
        reading.reference - self.reference(reading.raw, expected)
    }

    /// Takes in a reading; gives what is known of how the reference left its line, if it has.
    pub fn take_reading(&mut self, reading: &Reading) -> Option<Finding> {
        let t = self.seconds(reading.raw);
        let x = self.x_of(reading);
        let bound = half_width(reading.bound);
        let carried = self.carried(t);
        self.interval = carried.intersected(x, bound);
        self.read = t;
        if !self.is_blurred_by(reading.bound, &carried) {
            self.latest = latest(reading, t, x);
        }
        if reading.bound > COARSE {
            // It never tells how the reference left its line.
            self.give_up_regime();
        } else if self.regime.is_some() {
            return self.follow_regime(&Point { t, x, bound });
        }
        if !self.is_blurred_by(reading.bound, &carried) {
            self.open.add(t, x, bound, 1.0);
        }
        None
    }

    pub fn take_summary(&mut self, summary: &ReadingSummary) {
        let t = self.seconds(summary.at);
        let x = summary.difference.saturating_sub(self.base) as f64 + summary.rest_ns;
        if !self.is_blurred_by(summary.bound, &self.carried(t)) {
            self.open
                .add(t, x, half_width(summary.bound), summary.count);
        }
        self.interval = Interval {
            t: self.seconds(summary.last),
            low: summary.low.saturating_sub(self.base) as f64,
            high: summary.high.saturating_sub(self.base) as f64,
        };
        let last = summary.last_difference.saturating_sub(self.base) as f64;
        self.read = self.interval.t;
        self.latest = Some(Interval::around(self.read, last, summary.last_bound));
    }

    /// Closes the running block and takes it into the estimate. Returns how long the next one
    /// should be.
    pub fn settle(&mut self) -> Pace {
        let block = core::mem::take(&mut self.open);
        if block.count == 0.0 || self.regime.is_some() {
            return Pace::Same;
        }
        if self.blocks.len() == WINDOW {
            self.blocks.pop_front();
        }
        self.blocks.push_back(block);
        let before = self.filter;
        let pace = self.filter.take_in(&block);
        self.rate_error_ppb = self.rate_error();
        let elapsed = block.t - before.t;
        if elapsed > 0.0 && self.blocks.len() > 3 {
            let drift = (self.filter.rate_ppb - before.rate_ppb) / elapsed;
            self.drift_ppb_per_s += (drift - self.drift_ppb_per_s) / 8.0;
        }
        pace
    }

    /// What was known of the place before `reading` is void.
    pub fn forget_place(&mut self, reading: &Reading) {
        let (t, x) = (self.seconds(reading.raw), self.x_of(reading));
        self.interval = Interval::around(t, x, reading.bound);
        (self.latest, self.read) = (latest(reading, t, x), t);
    }

    /// The reference has left its line, as it was at `first`; from there on its place and its rate
    /// are found anew.
    pub fn begin_regime(&mut self, first: &Sighting, rate_is_void: bool) {
        let t = self.seconds(first.raw);
        let (carried, width) = (self.carried(t), self.interval.half());
        let by = first.difference.saturating_sub(self.base) as f64 - carried.middle();
        let bound = half_width(first.bound);
        let departure = Departure {
            by,
            bounds: width + bound,
            allowed: carried.half() + bound,
            gap: (t - self.interval.t).max(0.0),
        };
        let before = match &self.regime {
            Some(regime) => regime.rate(),
            None => KnownRate {
                rate_ppb: self.filter.rate_ppb,
                error_ppb: self.rate_error_ppb,
            },
        };
        self.base = first.difference;
        let point = Point { t, x: 0.0, bound };
        self.open = Block::default();
        self.blocks.clear();
        self.filter.replace(t, 0.0, bound);
        self.interval = Interval::around(t, 0.0, first.bound);
        (self.latest, self.read) = (None, t);
        self.regime = Some(Regime::new(point, departure, before, rate_is_void));
        self.rate_error_ppb = 2.0 * HOST_MOST_PPB;
    }

    /// Whether nothing has been measured of the rate yet.
    pub fn is_new(&self) -> bool {
        self.regime.is_none() && self.rate_error_ppb >= UNKNOWN_PPB
    }

    /// Whether place and rate of the reference are being found anew.
    pub fn is_open(&self) -> bool {
        self.regime.is_some()
    }

    /// How the reference left its line won't be found out any more: its rate is what is known of it by
    /// now.
    pub fn give_up_regime(&mut self) {
        let Some(regime) = self.regime.take() else {
            return;
        };
        self.known = regime.rate();
        let (x, half) = (self.interval.middle(), self.interval.half());
        self.filter.replace(self.interval.t, x, half);
        self.filter.rate_ppb = self.known.rate_ppb;
        self.rate_error_ppb = self.known.error_ppb;
    }

    /// Takes place and rate from the regime, and ends it where there is nothing more to be found.
    fn follow_regime(&mut self, point: &Point) -> Option<Finding> {
        let regime = self.regime.as_mut()?;
        regime.take_in(point);
        let (before, rate) = (regime.before(), regime.rate());
        let (finding, is_over) = (regime.finding(), regime.is_over());
        let (x, half) = (self.interval.middle(), self.interval.half());
        self.known = rate;
        if is_over && regime.may_keep_rate() {
            self.known.error_ppb = rate.error_ppb.min(before.error_ppb);
            self.filter.replace(point.t, x, half);
            self.filter.rate_ppb = rate.rate_ppb;
        } else {
            self.filter.replace_all(point.t, x, half, rate);
            if is_over && fabs(rate.rate_ppb - before.rate_ppb) < WANDER_CHANGE_PPB {
                self.filter.wander_more();
            }
        }
        self.rate_error_ppb = self.known.error_ppb;
        if is_over {
            self.regime = None;
        }
        finding
    }

    /// The reference moved to where `reading` says: keeps the rate and forgets the place.
    pub fn jump(&mut self, reading: &Reading) {
        let t = self.seconds(reading.raw);
        self.regime = None;
        let moved = self.x_of(reading) - self.filter.x_at(t);
        self.base = self.base.saturating_add(libm::round(moved) as i64);
        let x = self.x_of(reading);
        self.open = Block::default();
        self.blocks.clear();
        self.known = KnownRate {
            rate_ppb: self.filter.rate_ppb,
            error_ppb: self.rate_error_ppb,
        };
        self.filter.replace(t, x, half_width(reading.bound));
        self.interval = Interval::around(t, x, reading.bound);
        (self.latest, self.read) = (latest(reading, t, x), t);
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

    fn carried(&self, t: f64) -> Interval {
        self.interval
            .carried(t, self.filter.rate_ppb, self.spread_ppb())
    }

    /// An interval that a new rate of the reference leaves true while the last readings' bounds hide it:
    /// this one, and what the last reading says by itself.
    fn certain(&self, interval: &Interval) -> Interval {
        let Some(latest) = &self.latest else {
            return *interval;
        };
        let latest = latest.carried(interval.t, self.filter.rate_ppb, self.spread_ppb());
        interval.united(&latest)
    }

    /// ρ.
    fn spread_ppb(&self) -> f64 {
        WANDER_PPB + self.rate_error_ppb
    }

    /// Whether a reading is so much coarser than what is known already that it guards the bound,
    /// but would only blur the estimate.
    fn is_blurred_by(&self, bound: Nanos, known: &Interval) -> bool {
        let blurs = half_width(bound) > 8.0 * (known.high - known.low);
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

/// See [`Model::latest`].
fn latest(reading: &Reading, t: f64, x: f64) -> Option<Interval> {
    let at_every_tick = !matches!(reading.method, Method::RoundTrip | Method::Rtc);
    at_every_tick.then(|| Interval::around(t, x, reading.bound))
}

/// A half-width in whole nanoseconds, rounded outward.
fn outward(width: f64) -> Nanos {
    Nanos((libm::ceil(width) as i64).max(0).saturating_add(1))
}
