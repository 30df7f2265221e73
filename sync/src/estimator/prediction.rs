//! What is expected of the reference: where it is, and how it goes on.

use noonmark_contract::units::{Nanos, Utc};

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

/// The estimate at an instant, and how it goes on from there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Forecast {
    /// The most likely time.
    pub reference: Utc,
    /// Reference minus RAW by the middle of the interval, and half the interval's width.
    pub difference: i64,
    pub half_ns: f64,
    /// How fast the interval moves, and each of its ends moves apart.
    pub rate_ppb: f64,
    pub spread_ppb: f64,
}

impl Prediction {
    /// The largest error of `reference`, either way.
    pub fn bound(&self) -> Nanos {
        self.early.max(self.late)
    }
}
