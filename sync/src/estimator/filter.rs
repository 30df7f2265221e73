//! The point estimate: a Kalman filter on x, the reference minus RAW, and y, its rate.
//!
//! Readings are averaged into blocks. A block of n readings with pairing bound b, T after the last
//! one, has mean m and standard deviation σ = b / √(3 n), as of errors spread evenly within ± b.
//! With P the covariance, and y doing a random walk of q² per second,
//!
//! ```text
//! predict  x += y T    Pxx += 2 T Pxy + T² Pyy + q² T³/3    Pxy += T Pyy + q² T²/2    Pyy += q² T
//! correct  e = m - x   S = Pxx + σ²    x += Pxx/S e    y += Pxy/S e
//!          Pyy -= Pxy²/S    Pxy -= Pxx Pxy/S    Pxx -= Pxx²/S
//! ```
//!
//! At boot Pyy is the square of 100 ppm, so that the first blocks of a coarse source, a few ms
//! apart, don't make up a rate. q is not known beforehand: e²/S is 1 on average when q is right, so
//! q is moved by a factor of exp((e²/S - 1)/10). Where e²/S is beyond [`SURPRISE`], the rate has
//! changed at once (the host's own discipline does that), and (e/T)² is added to Pyy first.
//!
//! A block's mean stands T/2 before its end, and a correction made of it takes effect over the next
//! two blocks. So blocks are best when the noise, σ, which falls with T, balances the wander over
//! 5T/2, q √((5T/2)³/3), which grows.

use libm::{exp, fabs, sqrt};

use super::regime::KnownRate;

/// The rate's standard deviation then, in ppb. Crystals and calibrations are within 100 ppm.
const PRIOR_PPB: f64 = 100_000.0;

/// q: where it starts and what it stays within, in ppb per square root of a second.
const WALK_FIRST: f64 = 1.0;
const WALK_LEAST: f64 = 0.01;
const WALK_MOST: f64 = 1_000.0;

/// A block's e²/S from which the rate must have changed: five standard deviations.
const SURPRISE: f64 = 25.0;

/// Most of e²/S that moves q.
const WALK_PUSH: f64 = 9.0;

/// Block means below this are rounding, in ns.
const NOISE_FLOOR_NS: f64 = 0.3;

/// What the length of the next block should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Noise prevails: longer blocks average more of it away.
    Slower,
    /// The two balance, or there was nothing to judge by.
    Same,
    /// Wander prevails: shorter blocks follow it closer.
    Faster,
}

/// The mean of neighbouring readings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    pub t: f64,
    pub x: f64,
    pub count: f64,
    pub bound: f64,
}

/// The Kalman filter: state and covariance at `t`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    pub t: f64,
    pub x: f64,
    pub rate_ppb: f64,
    pxx: f64,
    pxy: f64,
    pyy: f64,
    walk: f64,
}

impl Filter {
    /// x is 0 at time 0 to within `bound`; of y there is but a guess.
    pub fn new(prior_ppb: f64, bound: f64) -> Self {
        Self {
            t: 0.0,
            x: 0.0,
            rate_ppb: prior_ppb,
            pxx: bound * bound / 3.0,
            pxy: 0.0,
            pyy: PRIOR_PPB * PRIOR_PPB,
            walk: WALK_FIRST,
        }
    }

    /// x at another time.
    pub fn x_at(&self, t: f64) -> f64 {
        self.x + self.rate_ppb * (t - self.t)
    }

    /// x is known anew, to within `deviation`, and what was known of it is void.
    pub fn replace(&mut self, t: f64, x: f64, deviation: f64) {
        self.pyy += self.walk * self.walk * fabs(t - self.t);
        (self.t, self.x) = (t, x);
        (self.pxx, self.pxy) = (deviation * deviation, 0.0);
    }

    /// x and y are known anew, each to within its error, and what was known of them is void.
    pub fn replace_all(&mut self, t: f64, x: f64, deviation: f64, rate: KnownRate) {
        self.replace(t, x, deviation);
        self.rate_ppb = rate.rate_ppb;
        self.pyy = rate.error_ppb * rate.error_ppb / 3.0;
    }

    /// Takes the rate for less constant than before.
    pub fn wander_more(&mut self) {
        self.walk = (self.walk * 2.0).min(WALK_MOST);
    }

    /// The standard deviation of x at another time.
    pub fn deviation_at(&self, t: f64) -> f64 {
        let dt = t - self.t;
        let walk = self.walk * self.walk * fabs(dt * dt * dt) / 3.0;
        sqrt((self.pxx + dt * (2.0 * self.pxy + dt * self.pyy) + walk).max(0.0))
    }

    /// The equations of the module's header.
    pub fn take_in(&mut self, block: &Block) -> Pace {
        let span = (block.t - self.t).max(0.0);
        let walk = self.walk * self.walk;
        let noise = (block.bound / sqrt(3.0 * block.count)).max(NOISE_FLOOR_NS);
        self.x = self.x_at(block.t);
        self.t = block.t;
        self.pxx += span * (2.0 * self.pxy + span * self.pyy) + walk * span * span * span / 3.0;
        self.pxy += span * self.pyy + walk * span * span / 2.0;
        self.pyy += walk * span;

        let surprise = block.x - self.x;
        let ratio = surprise * surprise / (self.pxx + noise * noise);
        if ratio > SURPRISE && span > 0.0 {
            let jump = surprise / span;
            self.pyy += jump * jump;
            self.pxy += span * jump * jump;
            self.pxx += span * span * jump * jump;
        }
        let total = self.pxx + noise * noise;
        let (gain_x, gain_y) = (self.pxx / total, self.pxy / total);
        self.x += gain_x * surprise;
        self.rate_ppb += gain_y * surprise;
        self.pyy -= gain_y * self.pxy;
        self.pxy -= gain_x * self.pxy;
        self.pxx -= gain_x * self.pxx;
        let factor = exp((ratio.min(WALK_PUSH) - 1.0) / 10.0);
        self.walk = (self.walk * factor).clamp(WALK_LEAST, WALK_MOST);

        let horizon = 2.5 * span;
        let wander = self.walk * sqrt(horizon * horizon * horizon / 3.0);
        if ratio > SURPRISE || wander > 2.0 * noise {
            Pace::Faster
        } else if wander < noise / 2.0 {
            Pace::Slower
        } else {
            Pace::Same
        }
    }
}

impl Block {
    /// Adds a reading, or the mean of `count` of them, to the running mean.
    pub fn add(&mut self, t: f64, x: f64, bound: f64, count: f64) {
        self.count += count;
        self.t += (t - self.t) * count / self.count;
        self.x += (x - self.x) * count / self.count;
        self.bound = self.bound.max(bound);
    }
}
