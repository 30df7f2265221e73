//! A count of nanoseconds at any rate, which keeps what is less than one.

use noonmark_contract::units::Nanos;

/// A counter in nanoseconds that keeps its fraction.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    whole: i64,
    fraction: f64,
}

impl Counter {
    pub fn new(whole: i64) -> Self {
        Self {
            whole,
            fraction: 0.0,
        }
    }

    pub fn whole(&self) -> i64 {
        self.whole
    }

    pub fn step(&mut self, by: Nanos) {
        self.whole = self.whole.saturating_add(by.0);
    }

    pub fn advance(&mut self, ns: i64, rate_ppb: f64) {
        self.whole += ns;
        self.fraction += ns as f64 * rate_ppb / 1e9;
        let carry = self.fraction.floor();
        self.whole += carry as i64;
        self.fraction -= carry;
    }
}
