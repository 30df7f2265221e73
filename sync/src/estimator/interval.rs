//! Between what x, the reference minus RAW, must lie: the bound's arithmetic.
//!
//! A reading says that x lies in m ± b. Carried forward by dt, the interval's ends move with y and
//! apart by ρ dt. The next reading's interval is intersected with the carried one: both hold the
//! truth, so their intersection does.

use libm::fabs;
use noonmark_contract::units::Nanos;

/// An interval of x in nanoseconds, as it is at time `t` in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub t: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// x ± `bound`, as a reading at `t` says.
    pub fn around(t: f64, x: f64, bound: Nanos) -> Self {
        let bound = half_width(bound);
        Self {
            t,
            low: x - bound,
            high: x + bound,
        }
    }

    /// The interval at another time: moved with the rate, and wider by ρ dt at each end.
    pub fn carried(&self, t: f64, rate_ppb: f64, spread_ppb: f64) -> Self {
        let dt = t - self.t;
        let moved = rate_ppb * dt;
        let wider = spread_ppb * fabs(dt);
        Self {
            t,
            low: self.low + moved - wider,
            high: self.high + moved + wider,
        }
    }

    /// What this and another hold, of the same instant.
    pub fn united(&self, other: &Self) -> Self {
        Self {
            t: self.t,
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }

    pub fn middle(&self) -> f64 {
        (self.low + self.high) / 2.0
    }

    pub fn half(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// What this and x ± bound have in common; the latter alone, if nothing.
    pub fn intersected(&self, x: f64, bound: f64) -> Self {
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

/// A bound as half the width of an interval; never zero, because clocks count whole nanoseconds.
pub(super) fn half_width(bound: Nanos) -> f64 {
    bound.0.max(1) as f64
}
