//! The emulated host's own clock: set, slewed, and at another rate.

use noonmark_contract::units::Nanos;
use noonmark_linux::clocks::{self, Sandwich};
use noonmark_linux::sys::{self, Adjust};

/// Of so many readings of two clocks the tightest counts.
const READINGS: usize = 20;

/// `freq` of adjtimex(2) counts parts per million in 16 fractional bits.
const FREQ_OF_PPM: i64 = 1 << 16;

/// The kernel's usual `tick`, in microseconds.
const TICK_US: i64 = 10_000;

/// Sets the clock to what it says plus this.
pub(super) fn step(by: Nanos) -> Result<(), String> {
    let time = clocks::timespec(by);
    adjust(Adjust {
        set_offset: Some((time.tv_sec, time.tv_nsec)),
        ..Adjust::default()
    })
}

/// Has the kernel slew the clock by this.
pub(super) fn slew(by: Nanos) -> Result<(), String> {
    sys::adjtime(by.0 / 1_000).map_err(|errno| format!("the host's clock can't be slewed: {errno}"))
}

/// How far the clock is from MONOTONIC_RAW, which nothing slews.
pub(super) fn off_raw() -> Nanos {
    Sandwich::tightest(READINGS).difference()
}

/// The rate as it was set by whoever keeps the clock: `freq` and `tick` of adjtimex(2).
pub(super) fn rate() -> Result<(i64, i64), String> {
    sys::adjtimex(Adjust::default()).map_err(|errno| format!("adjtimex: {errno}"))
}

/// Whether the clock has been left to itself.
pub(super) fn is_untouched() -> Result<bool, String> {
    rate().map(|rate| rate == (0, TICK_US))
}

/// A rate that was changed, and is again what it was when this is dropped, with any slew ended.
#[derive(Debug)]
pub(crate) struct RestoredRate;

impl RestoredRate {
    /// Changes it.
    pub(super) fn changed_to(ppm: i32) -> Result<Self, String> {
        let frequency = Some((i64::from(ppm) * FREQ_OF_PPM, TICK_US));
        adjust(Adjust {
            frequency,
            ..Adjust::default()
        })?;
        Ok(Self)
    }

    /// Leaves it to a program.
    pub(super) fn after_program() -> Self {
        Self
    }
}

impl Drop for RestoredRate {
    fn drop(&mut self) {
        // It was allowed to be changed a moment ago.
        let _ = slew(Nanos::ZERO);
        let _ = adjust(Adjust {
            frequency: Some((0, TICK_US)),
            ..Adjust::default()
        });
    }
}

fn adjust(adjust: Adjust) -> Result<(), String> {
    sys::adjtimex(adjust)
        .map(drop)
        .map_err(|errno| format!("the host's clock can't be adjusted: {errno}"))
}
