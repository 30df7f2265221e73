//! A measured time against the one that was expected of the same clock at the same instant.

use noonmark_contract::units::Nanos;

/// How far a reading is from what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deviation {
    /// Reading minus expectation.
    pub by: Nanos,
    /// What the bounds of both can explain.
    pub allowed: Nanos,
}

impl Deviation {
    /// Whether the bounds cannot explain it.
    pub fn exceeds(&self) -> bool {
        self.by.abs() > self.allowed
    }
}
