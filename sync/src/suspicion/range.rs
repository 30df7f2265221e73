//! Where a reference is if it moved: what readings have in common.

use noonmark_contract::units::{Nanos, Ppb, Raw};

use crate::deviation::Deviation;
use crate::estimator::Sighting;

/// Between what the deviation was at an instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct MoveRange {
    at: Raw,
    low: Nanos,
    high: Nanos,
}

impl MoveRange {
    pub fn around(reading: &Sighting, deviation: Deviation) -> Self {
        Self {
            at: reading.raw,
            low: deviation.by - reading.bound,
            high: deviation.by + reading.bound,
        }
    }

    /// At another instant, by when the expectation may have drifted at `rate_error` either way.
    pub fn carried(&self, at: Raw, rate_error: Ppb) -> Self {
        let wider = rate_error.over((at - self.at).abs()) + Nanos(2);
        Self {
            at,
            low: self.low - wider,
            high: self.high + wider,
        }
    }

    /// What the two have in common, if anything.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        let at = self.at;
        (low <= high).then_some(Self { at, low, high })
    }
}
