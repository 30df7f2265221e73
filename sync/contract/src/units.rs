//! Quantities as types, and the one place where their signs are defined.
//!
//! - An **offset** is *reference minus clock*: positive when the clock is behind the reference, so
//!   that adding the offset to the clock makes it right.
//! - A **frequency** is the relative rate that is *added* to a clock, in parts per billion:
//!   positive makes the clock run faster. A clock whose oscillator loses 3 ppm against the
//!   reference needs +3000 ppb.
//! - A **bound** is the largest magnitude that the error of a quantity may have; never negative.

use core::fmt;
use core::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// A signed span of time in nanoseconds: an offset, a bound, a delay. Range: ±292 years.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub i64);

/// An instant of UTC: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted
/// (`CLOCK_REALTIME`'s scale). Range: 1677 to 2262.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Utc(pub i64);

/// An instant of the guest's `CLOCK_MONOTONIC_RAW`: nanoseconds since boot by the bare
/// clocksource, which neither a step nor `adjtimex` can disturb.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Raw(pub i64);

/// A relative frequency in parts per billion.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ppb(pub f64);

impl Utc {
    /// No clock says truly that it is later than this: 2200-01-01. To refuse what does keeps
    /// arithmetic on hostile times in range.
    pub const LATEST: Self = Self(7_258_118_400_000_000_000);
}

impl Nanos {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest span; the bound of something unknown.
    pub const MAX: Self = Self(i64::MAX);

    /// A span of whole microseconds.
    #[must_use]
    pub const fn from_micros(us: i64) -> Self {
        Self(us.saturating_mul(1_000))
    }

    /// A span of whole milliseconds.
    #[must_use]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(s: i64) -> Self {
        Self(s.saturating_mul(1_000_000_000))
    }

    /// The magnitude; the most negative value gives [`Nanos::MAX`].
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// By how much `CLOCK_MONOTONIC_RAW` may run off in this span, either way: 1 part in 2000, which
    /// is the most that `adjtimex` would correct.
    #[must_use]
    pub const fn raw_skew(self) -> Self {
        Self(self.abs().0 / 2_000)
    }

    /// The span as seconds, for arithmetic that needs no exact nanosecond.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Nanos {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Nanos {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

/// Prints with the unit a person would choose: `-1.500 ms`, `72 ns`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0 as f64;
        match self.0.unsigned_abs() {
            0..1_000 => write!(f, "{} ns", self.0),
            1_000..1_000_000 => write!(f, "{:.3} us", ns / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.3} ms", ns / 1e6),
            _ => write!(f, "{:.3} s", ns / 1e9),
        }
    }
}

macro_rules! instant {
    ($name:ident) => {
        impl Add<Nanos> for $name {
            type Output = Self;
            fn add(self, span: Nanos) -> Self {
                Self(self.0.saturating_add(span.0))
            }
        }
        impl Sub<Nanos> for $name {
            type Output = Self;
            fn sub(self, span: Nanos) -> Self {
                Self(self.0.saturating_sub(span.0))
            }
        }
        impl Sub for $name {
            type Output = Nanos;
            fn sub(self, earlier: Self) -> Nanos {
                Nanos(self.0.saturating_sub(earlier.0))
            }
        }
    };
}
instant!(Utc);
instant!(Raw);

impl Ppb {
    /// What this rate makes of a span: 1000 ppb over 1 s is 1000 ns. Saturates.
    #[must_use]
    pub fn over(self, span: Nanos) -> Nanos {
        Nanos(libm::round(self.0 * span.as_secs_f64()) as i64)
    }
}

impl fmt::Display for Ppb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+.3} ppm", self.0 / 1e3)
    }
}
