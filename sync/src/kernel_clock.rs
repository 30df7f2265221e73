//! The two settings by which the kernel lets a clock's rate be corrected (kernel/time/ntp.c).
//!
//! `freq` counts in steps of 2^-16 ppm within ±500 ppm, and is silently clamped beyond; `tick` in
//! steps of 1 µs of 10000, that is 100 ppm, within ±10 %.

use libm::{fabs, round};
use noonmark_contract::units::Ppb;

/// Beyond this the kernel clamps `freq`; the tick takes over.
const MAX_FREQUENCY_PPB: f64 = 500_000.0;

/// One microsecond more in a tick of 1/100 s.
const TICK_PPB: f64 = 100_000.0;

/// The tick without any correction, in microseconds.
const NOMINAL_TICK_US: i64 = 10_000;

/// The fastest that the kernel lets a clock run or stand back, in ppb: ten percent, by the tick.
pub(crate) const MAX_RATE: Ppb = Ppb(100_000_000.0);

/// `freq` counts in this many ppb.
pub(crate) const RESOLUTION_PPB: f64 = 1_000.0 / 65_536.0;

/// A frequency read back that is this close to the one written is the one written.
const SAME_PPB: f64 = 0.1;

/// What `adjtimex` says of `CLOCK_REALTIME` (kernel/time/ntp.c).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelClock {
    /// `freq`: the frequency set, +-500 ppm.
    pub frequency: Ppb,
    /// `tick`: microseconds between two ticks of 1/100 s; 9000..=11000, normally 10000.
    pub tick_us: i64,
}

impl KernelClock {
    /// A clock that nothing corrects.
    pub const NOMINAL: Self = Self {
        frequency: Ppb(0.0),
        tick_us: NOMINAL_TICK_US,
    };

    /// Frequency and tick together: the rate they add to the clock.
    #[must_use]
    pub fn rate(&self) -> Ppb {
        Ppb(self.frequency.0 + (self.tick_us - NOMINAL_TICK_US) as f64 * TICK_PPB)
    }

    /// The settings whose rate is nearest to `rate`: frequency alone within ±500 ppm, else with as
    /// much of the tick as is needed.
    #[must_use]
    pub fn with_rate(rate: Ppb) -> Self {
        let wanted = rate.0.clamp(-MAX_RATE.0, MAX_RATE.0);
        let ticks = if fabs(wanted) <= MAX_FREQUENCY_PPB {
            0.0
        } else {
            round(wanted / TICK_PPB)
        };
        let rest = wanted - ticks * TICK_PPB;
        Self {
            frequency: Ppb(round(rest / RESOLUTION_PPB) * RESOLUTION_PPB),
            tick_us: NOMINAL_TICK_US + ticks as i64,
        }
    }

    /// Whether `other` does the same, read-back rounding aside.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.tick_us == other.tick_us && fabs(self.frequency.0 - other.frequency.0) <= SAME_PPB
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_within_500_ppm_leaves_the_tick_alone() {
        for ppb in [0.0, 499_999.0, -500_000.0] {
            let clock = KernelClock::with_rate(Ppb(ppb));
            assert_eq!(clock.tick_us, 10_000);
            assert!(fabs(clock.rate().0 - ppb) <= RESOLUTION_PPB);
        }
    }

    proptest! {
        #[test]
        fn any_rate_becomes_settings_that_the_kernel_takes(ppb in -1e9..1e9) {
            let clock = KernelClock::with_rate(Ppb(ppb));
            prop_assert!((9_000..=11_000).contains(&clock.tick_us));
            prop_assert!(fabs(clock.frequency.0) <= MAX_FREQUENCY_PPB);
            let wanted = ppb.clamp(-MAX_RATE.0, MAX_RATE.0);
            prop_assert!(fabs(clock.rate().0 - wanted) <= RESOLUTION_PPB);
        }
    }
}
