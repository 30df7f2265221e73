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

/// Where the host's clock can't be read, a clock counts as restored once its rate is within this of what it was
/// before. What is left of an error is slewed away with less once the worst is over.
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
        Fault::Frequency(_) | Fault::Tick(_) => adjust(Rate::read()?.changed(fault)),
    }
}

fn set(since_1970: Nanos) -> Result<(), Errno> {
    clock_settime(ClockId::Realtime, clocks::timespec(since_1970))
}

fn adjust(rate: Rate) -> Result<(), Errno> {
    sys::adjtimex(Adjust {
        frequency: Some((rate.freq, rate.tick)),
        ..Adjust::default()
    })
    .map(drop)
}

/// A rate that the clock is set to, as adjtimex(2) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    freq: i64,
    tick: i64,
}

impl Rate {
    /// The rate in force.
    ///
    /// # Errors
    /// As `adjtimex`.
    pub fn read() -> Result<Self, Errno> {
        sys::adjtimex(Adjust::default()).map(|(freq, tick)| Self { freq, tick })
    }

    /// What a fault makes of it.
    #[must_use]
    pub fn changed(self, fault: Fault) -> Self {
        match fault {
            Fault::Frequency(frequency) => Self {
                freq: (frequency.0 * FREQ_PER_PPB).round() as i64,
                ..self
            },
            Fault::Tick(tick) => Self { tick, ..self },
            _ => self,
        }
    }

    /// Whether a clock at this rate counts as restored to `other` where nothing else tells.
    #[must_use]
    pub fn is_about(self, other: Self) -> bool {
        (self.ppb() - other.ppb()).abs() <= RESTORED.0
    }

    fn ppb(self) -> f64 {
        self.freq as f64 / FREQ_PER_PPB + (self.tick - TICK_US) as f64 * PPB_PER_TICK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rate(freq: i64, tick: i64) -> Rate {
        Rate { freq, tick }
    }

    #[test]
    fn frequency_and_tick_add_up_to_one_rate() {
        let ppb = |freq, tick| rate(freq, tick).ppb();
        assert_eq!(ppb(0, 10_000), 0.0);
        assert_eq!(ppb(32_768_000, 10_000), 500_000.0);
        assert_eq!(ppb(0, 11_000), 100_000_000.0);
        assert_eq!(ppb(-32_768_000, 9_000), -100_500_000.0);
    }

    #[test]
    fn a_fault_changes_the_frequency_or_the_tick() {
        let before = rate(-65_536, 10_001);
        let frequency = before.changed(Fault::Frequency(Ppb(500_000.0)));
        assert_eq!(frequency, rate(32_768_000, 10_001));
        assert_eq!(before.changed(Fault::Tick(9_000)), rate(-65_536, 9_000));
    }

    #[test]
    fn a_rate_is_restored_to_within_50_ppm() {
        let before = rate(0, 10_000);
        assert!(Rate::read().unwrap().is_about(Rate::read().unwrap()));
        assert!(rate(49 * 65_536, 10_000).is_about(before));
        assert!(!rate(51 * 65_536, 10_000).is_about(before));
        assert!(!rate(0, 10_001).is_about(before));
    }
}
