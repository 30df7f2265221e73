//! The kernel's clock as `adjtimex` sets and reads it.

use noonmark_contract::units::{Nanos, Ppb};
use noonmark_linux::clocks;
use noonmark_linux::sys::{self, Adjust};
use noonmark_sync::engine::KernelClock;
use rustix::io::Errno;

/// `freq` of `adjtimex` counts ppm with 16 fractional bits: this many of it are one ppb.
const FREQ_PER_PPB: f64 = 65.536;

/// What the kernel is told of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The largest error against UTC.
    pub maxerror: Nanos,
    /// The error that is to be expected.
    pub esterror: Nanos,
    /// Whether the clock is to count as not synchronized: STA_UNSYNC. Where it is clear, the kernel copies
    /// the clock into the RTC (kernel/time/ntp.c, `sync_hw_clock`), which then contradicts no falseticker
    /// any more; nothing but the flag keeps the kernel from it. See `[clock] rtcsync`.
    pub unsync: bool,
    /// TAI minus UTC in seconds, where it is known.
    pub tai_offset_s: Option<i32>,
}

/// Tells the kernel, for programs that ask `adjtimex`; without this it claims 16 s after every step.
///
/// A leap second that the host announces is not passed on: the guest's kernel and its host's would both
/// step at midnight, and to PID 1 one of the two would be somebody's step of the guest's clock. The guest
/// follows its host's clock there as at any other step, or smear, of it.
///
/// # Errors
/// As `adjtimex`.
pub fn declare(declared: &Declared) -> Result<(), Errno> {
    let microseconds = |span: Nanos| span.0 / 1_000 + 1;
    sys::adjtimex(Adjust {
        error_us: Some((
            microseconds(declared.maxerror),
            microseconds(declared.esterror),
        )),
        unsync: declared.unsync,
        tai_offset_s: declared.tai_offset_s,
        ..Adjust::default()
    })
    .map(|_| ())
}

/// Moves the clock by this much at once.
///
/// # Errors
/// The error number of `adjtimex`.
pub fn step(offset: Nanos) -> Result<(), i32> {
    let time = clocks::timespec(offset);
    adjust(Adjust {
        set_offset: Some((time.tv_sec, time.tv_nsec)),
        ..Adjust::default()
    })
    .map(|_| ())
}

/// Sets the clock's frequency and tick.
///
/// # Errors
/// As [`step`].
pub fn set_frequency(kernel: KernelClock) -> Result<(), i32> {
    adjust(Adjust {
        frequency: Some((to_freq(kernel.frequency), kernel.tick_us)),
        ..Adjust::default()
    })
    .map(|_| ())
}

/// What the clock's frequency and tick are set to.
///
/// # Errors
/// As [`step`].
pub fn read() -> Result<KernelClock, i32> {
    adjust(Adjust::default()).map(|(freq, tick_us)| KernelClock {
        frequency: Ppb(freq as f64 / FREQ_PER_PPB),
        tick_us,
    })
}

fn adjust(adjust: Adjust) -> Result<(i64, i64), i32> {
    sys::adjtimex(adjust).map_err(Errno::raw_os_error)
}

fn to_freq(frequency: Ppb) -> i64 {
    (frequency.0 * FREQ_PER_PPB).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequency_is_ppm_with_sixteen_fractional_bits() {
        assert_eq!(to_freq(Ppb(1_000.0)), 65_536);
        assert_eq!(to_freq(Ppb(-500_000.0)), -32_768_000);
    }

    #[test]
    fn what_is_set_reads_back_as_the_same_frequency_to_a_fraction_of_a_ppb() {
        let freq = to_freq(Ppb(123.456));
        assert!((freq as f64 / FREQ_PER_PPB - 123.456).abs() < 0.01);
    }
}
