//! Whether a reference that left its line was stepped, or runs at another rate: two hypotheses, which
//! the readings that follow tell apart.
//!
//! Up to t₀ the reference kept to a line of rate y₀. At t₁, T later, it is off that line by d, and
//! nothing is known of what came between:
//!
//! ```text
//! S   it was stepped by d, and keeps its rate:    y = y₀
//! R   its rate changed by Δ at t₁ - u, u <= T:    d = Δ u, so that |Δ| >= |d| / T and Δ d > 0
//! ```
//!
//! Any later reading, at t, bounds the rate since t₁ by the bounds of the two and no more:
//!
//! ```text
//! y  in  (x - x₁) / (t - t₁)  ±  (b + b₁) / (t - t₁)
//! ```
//!
//! All of these intervals hold the rate as long as it stays, so their intersection [low, high] does.
//! S falls when that holds no y₀; R when it holds no rate that could have made d within T. Both fall
//! where a step and a change of rate came together, as in a migration. A rate beyond what a kernel
//! can give its clock ([`HOST_MOST_PPB`]) needs no second reading: d > T times that is a step.
//!
//! How long it takes: the intersection is as narrow as |d| / T after (b + b₁) T / |d|. With readings
//! good to 10 ns and a watch of 20 ms that is 4 µs for a step, or a slew, of 100 µs, and 4 ms for a
//! rate that is 5 ppm off. So the repeated reading that confirms a deviation nearly always decides.
//!
//! The same intersection is the new rate's estimate and its error: its middle, or y₀ where it holds
//! that. No noise is assumed to be Gaussian, and there is no probability to be tuned. A Kalman filter
//! whose covariance is blown up by a surprise, as [`super::filter`] does within its blocks, needs
//! some blocks of 40 ms for the same, and an interacting multiple-model filter a probability for each
//! way in which a host may be disciplined; both state no bound.

use libm::fabs;

/// The fastest that a host's clock can run against its counter, in ppb: a tick of 10 %, a frequency of
/// 500 ppm (kernel/time/ntp.c), and as much of a counter's own error.
pub(super) const HOST_MOST_PPB: f64 = 101_000_000.0;

/// A new rate is measured for at least this long before the filter has it, in seconds.
const LEAST: f64 = 0.015;

/// After this long the hypotheses are too near each other to matter, in seconds.
const MOST: f64 = 1.0;

/// A reading as a point: reference minus RAW at an instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub t: f64,
    pub x: f64,
    pub bound: f64,
}

/// A rate, and the largest error that it can have.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownRate {
    pub rate_ppb: f64,
    pub error_ppb: f64,
}

/// How the reference left its line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    /// How far off the line it was at the first reading.
    pub by: f64,
    /// What bounds alone explain of that, and what they and wander do.
    pub bounds: f64,
    pub allowed: f64,
    /// Time since the last reading on the line.
    pub gap: f64,
}

/// What came of the two hypotheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The reference was stepped.
    pub stepped: bool,
    /// It runs at another rate.
    pub rate_changed: bool,
}

/// The time since the reference left its line.
#[derive(Clone, Debug)]
pub(super) struct Regime {
    first: Point,
    last: f64,
    departure: Departure,
    before: KnownRate,
    /// Whether the rate from before counts for nothing: the machine is another one.
    is_void: bool,
    low: f64,
    high: f64,
}

impl Regime {
    pub fn new(first: Point, departure: Departure, before: KnownRate, is_void: bool) -> Self {
        Self {
            first,
            last: first.t,
            departure,
            before,
            is_void,
            low: before.rate_ppb - 2.0 * HOST_MOST_PPB,
            high: before.rate_ppb + 2.0 * HOST_MOST_PPB,
        }
    }

    /// The rate from before.
    pub fn before(&self) -> KnownRate {
        self.before
    }

    pub fn take_in(&mut self, point: &Point) {
        let span = point.t - self.first.t;
        if span <= 0.0 {
            return;
        }
        self.last = point.t;
        let mean = (point.x - self.first.x) / span;
        let error = (point.bound + self.first.bound) / span;
        let (low, high) = (self.low.max(mean - error), self.high.min(mean + error));
        // An empty one has contradicted the interval of x as well, and begins a regime of its own.
        (self.low, self.high) = if low <= high {
            (low, high)
        } else {
            (mean - error, mean + error)
        };
    }

    /// The rate, and how far it can be wrong.
    pub fn rate(&self) -> KnownRate {
        let rate_ppb = if self.may_keep_rate() {
            self.before.rate_ppb
        } else {
            (self.low + self.high) / 2.0
        };
        KnownRate {
            rate_ppb,
            error_ppb: (self.high - rate_ppb).max(rate_ppb - self.low),
        }
    }

    /// Which of the hypotheses hold; none as long as that is open.
    pub fn finding(&self) -> Option<Finding> {
        let Departure { by, bounds, .. } = self.departure;
        let needs_step = fabs(by) > self.departure.allowed;
        let (before, error) = (self.before.rate_ppb, self.before.error_ppb);
        let keeps_rate = self.low <= before + error && before - error <= self.high;
        // The largest change towards `by` that the readings leave, and what it makes of the gap.
        let change = if by > 0.0 {
            self.high - before + error
        } else {
            before - self.low + error
        };
        let reachable = change.clamp(0.0, HOST_MOST_PPB) * self.departure.gap;
        let by_rate = fabs(by) - bounds <= reachable;
        if self.is_void {
            // No rate was kept: what the new one does not explain was a step.
            let rate_changed = self.age() >= LEAST;
            let stepped = needs_step && !by_rate;
            let finding = Finding {
                stepped,
                rate_changed,
            };
            return (stepped || rate_changed).then_some(finding);
        }
        match (keeps_rate, needs_step, by_rate) {
            // Too little for a step: what is left to find out is the rate.
            (_, false, _) if self.age() < LEAST => None,
            (_, false, _) => Some(Finding {
                stepped: false,
                rate_changed: !keeps_rate,
            }),
            (keeps_rate, true, false) => Some(Finding {
                stepped: true,
                rate_changed: !keeps_rate && self.age() >= LEAST,
            }),
            (false, true, true) => Some(Finding {
                stepped: false,
                rate_changed: true,
            }),
            (true, true, true) if self.age() < MOST => None,
            (true, true, true) => Some(Finding {
                stepped: true,
                rate_changed: false,
            }),
        }
    }

    /// Whether nothing more is to be found out.
    pub fn is_over(&self) -> bool {
        self.age() >= LEAST && self.finding().is_some()
    }

    /// Whether the rate from before is one that the readings leave.
    pub fn may_keep_rate(&self) -> bool {
        let before = self.before.rate_ppb;
        !self.is_void && self.low <= before && before <= self.high
    }

    fn age(&self) -> f64 {
        self.last - self.first.t
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: KnownRate = KnownRate {
        rate_ppb: 23_000.0,
        error_ppb: 20.0,
    };

    /// A regime after a gap of 20 ms, in which the reference moved by `by` ns and then ran at `ppb`
    /// more than before; with readings good to 10 ns after each of the seconds.
    fn regime(by: f64, ppb: f64, after: &[f64]) -> Regime {
        let first = Point {
            t: 0.0,
            x: by,
            bound: 10.0,
        };
        let departure = Departure {
            by,
            bounds: 20.0,
            allowed: 320.0,
            gap: 0.02,
        };
        let mut regime = Regime::new(first, departure, BEFORE, false);
        for &t in after {
            let x = by + (BEFORE.rate_ppb + ppb) * t;
            let bound = 10.0;
            regime.take_in(&Point { t, x, bound });
        }
        regime
    }

    const STEPPED: Finding = Finding {
        stepped: true,
        rate_changed: false,
    };
    const OTHER_RATE: Finding = Finding {
        stepped: false,
        rate_changed: true,
    };

    #[test]
    fn a_step_of_100_us_or_more_is_told_by_the_repeated_reading() {
        for by in [100e3, -100e3, 2e6, -1e9] {
            assert_eq!(regime(by, 0.0, &[10e-6]).finding(), Some(STEPPED), "{by}");
        }
    }

    #[test]
    fn a_slew_is_told_from_a_step_however_late_in_the_gap_it_began() {
        for (ppb, began) in [(83e6, 0.02), (-83e6, 0.001), (500e3, 0.02), (500e3, 0.005)] {
            let told = regime(ppb * began, ppb, &[20e-6, 1e-3, 3e-3]);
            assert_eq!(told.finding(), Some(OTHER_RATE), "{ppb} {began}");
            let rate = told.rate();
            assert!(fabs(rate.rate_ppb - BEFORE.rate_ppb - ppb) <= rate.error_ppb);
            assert!(rate.error_ppb <= 7_000.0, "{rate:?}");
        }
    }

    #[test]
    fn a_move_that_wander_explains_is_never_called_a_step() {
        let open = regime(150.0, 7_500.0, &[20e-6, 1e-3, 3e-3]);
        assert_eq!(open.finding(), None);
        let told = regime(150.0, 7_500.0, &[20e-6, 1e-3, 3e-3, 7e-3, 15e-3]);
        assert_eq!(told.finding(), Some(OTHER_RATE));
        assert!(told.is_over());
    }

    #[test]
    fn a_step_with_another_rate_is_told_as_both() {
        let told = regime(5e6, 100e3, &[20e-6, 1e-3, 3e-3, 7e-3, 15e-3]);
        let both = Finding {
            stepped: true,
            rate_changed: true,
        };
        assert_eq!(told.finding(), Some(both));
    }
}
