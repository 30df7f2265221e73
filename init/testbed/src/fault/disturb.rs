//! The disturbances themselves: each through the system call that a person's command would use.

use noonmark_contract::testport::Fault;
use noonmark_contract::units::{Nanos, Ppb};
use noonmark_linux::clocks;
use noonmark_linux::sys::{self, Adjust};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_settime};

/// `freq` of `adjtimex` counts ppm with 16 fractional bits: this many of it are one ppb.
const FREQ_PER_PPB: f64 = 65.536;

/// A tick that is longer by one microsecond makes the clock faster by this.
const PPB_PER_TICK: f64 = 100_000.0;

/// `tick` that makes the clock neither faster nor slower.
const TICK_US: i64 = 10_000;

/// The rate that is in force; the clock counts as restored within this of it. What is left of an
/// error is slewed away with less once the worst is over.
const RESTORED: Ppb = Ppb(50_000.0);

/// Does it.
///
/// # Errors
/// What the system call says.
pub fn disturb(fault: Fault) -> Result<(), Errno> {
    match fault {
        Fault::None | Fault::Watch(_) => Ok(()),
        Fault::Set(instant) => set(Nanos(instant.0)),
        Fault::Shift(span) => set(Nanos(clocks::realtime().0) + span),
        Fault::Frequency(frequency) => {
            let (_, tick) = sys::adjtimex(Adjust::default())?;
            let freq = (frequency.0 * FREQ_PER_PPB).round() as i64;
            adjust(freq, tick)
        }
        Fault::Tick(tick) => {
            let (freq, _) = sys::adjtimex(Adjust::default())?;
            adjust(freq, tick)
        }
    }
}

fn set(since_1970: Nanos) -> Result<(), Errno> {
    clock_settime(ClockId::Realtime, clocks::timespec(since_1970))
}

fn adjust(freq: i64, tick: i64) -> Result<(), Errno> {
    sys::adjtimex(Adjust {
        frequency: Some((freq, tick)),
        ..Adjust::default()
    })
    .map(drop)
}

/// The rate that the clock was set to before a fault changed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(Ppb);

impl Rate {
    /// The rate in force.
    ///
    /// # Errors
    /// As `adjtimex`.
    pub fn read() -> Result<Self, Errno> {
        sys::adjtimex(Adjust::default()).map(|(freq, tick)| Self::of(freq, tick))
    }

    /// Whether the rate in force is this again.
    #[must_use]
    pub fn is_restored(self) -> bool {
        Self::read().is_ok_and(|now| (now.0.0 - self.0.0).abs() <= RESTORED.0)
    }

    fn of(freq: i64, tick: i64) -> Self {
        let ticks = (tick - TICK_US) as f64 * PPB_PER_TICK;
        Self(Ppb(freq as f64 / FREQ_PER_PPB + ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequency_and_tick_add_up_to_one_rate() {
        assert_eq!(Rate::of(0, 10_000), Rate(Ppb(0.0)));
        assert_eq!(Rate::of(32_768_000, 10_000), Rate(Ppb(500_000.0)));
        assert_eq!(Rate::of(0, 11_000), Rate(Ppb(100_000_000.0)));
        assert_eq!(Rate::of(-32_768_000, 9_000), Rate(Ppb(-100_500_000.0)));
    }

    #[test]
    fn an_unchanged_rate_is_restored() {
        assert!(Rate::read().unwrap().is_restored());
    }
}
