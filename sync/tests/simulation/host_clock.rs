//! The host's clock against physical time, as whoever keeps it moves it: by rate, slew and step.

use noonmark_contract::units::{Nanos, Ppb, Utc};

use crate::counter::Counter;

/// Where physical time begins, on the host's clock: 2026-01-01.
pub const START: i64 = 1_767_225_600_000_000_000;

/// Time between two changes of the rate by which a kernel's PLL takes an offset away
/// (kernel/time/ntp.c, `second_overflow`).
const PLL_PERIOD: i64 = 1_000_000_000;

/// A PLL's correction below this is over.
const PLL_LEAST: Ppb = Ppb(100.0);

/// How the host's clock is corrected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Correction {
    /// Its rate is another from now on.
    Rate(Ppb),
    /// It is slewed at a constant rate for this long, in ns: chronyd up to 83,333 ppm, `adjtime` at
    /// 500 ppm.
    Slew {
        /// On top of the rate that it has.
        rate: Ppb,
        /// For how long, in ns of physical time.
        span: i64,
    },
    /// It is slewed by the kernel's PLL: each second the correction is this share of the last.
    Pll {
        /// The first second's.
        rate: Ppb,
        /// What is left of it in the next.
        share: f64,
    },
}

/// The host's clock.
#[derive(Debug)]
pub struct HostClock {
    clock: Counter,
    rate: Ppb,
    slew: Ppb,
    /// When `slew` ends or changes, in physical time, and to which share of itself.
    slew_until: i64,
    share: f64,
}

impl HostClock {
    pub fn new() -> Self {
        Self {
            clock: Counter::new(START),
            rate: Ppb(0.0),
            slew: Ppb(0.0),
            slew_until: i64::MAX,
            share: 0.0,
        }
    }

    pub fn time(&self) -> Utc {
        Utc(self.clock.whole())
    }

    pub fn step(&mut self, by: Nanos) {
        self.clock.step(by);
    }

    /// Begins a correction at `now`; a slew under way ends.
    pub fn correct(&mut self, now: i64, correction: Correction) {
        self.slew = Ppb(0.0);
        self.slew_until = i64::MAX;
        match correction {
            Correction::Rate(rate) => self.rate = rate,
            Correction::Slew { rate, span } => {
                (self.slew, self.share) = (rate, 0.0);
                self.slew_until = now.saturating_add(span);
            }
            Correction::Pll { rate, share } => {
                (self.slew, self.share) = (rate, share);
                self.slew_until = now + PLL_PERIOD;
            }
        }
    }

    /// Lets physical time pass from `now` on.
    pub fn pass(&mut self, now: i64, ns: i64) {
        let (mut at, until) = (now, now + ns);
        while at < until {
            let next = self.slew_until.clamp(at, until);
            self.clock.advance(next - at, self.rate.0 + self.slew.0);
            at = next;
            if at == self.slew_until {
                self.next_slew();
            }
        }
    }

    fn next_slew(&mut self) {
        self.slew = Ppb(self.slew.0 * self.share);
        if self.slew.0.abs() < PLL_LEAST.0 {
            self.slew = Ppb(0.0);
            self.slew_until = i64::MAX;
        } else {
            self.slew_until += PLL_PERIOD;
        }
    }
}
