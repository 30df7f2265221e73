//! The kernel's clocks as the project's types.

use noonmark_contract::units::{Nanos, Raw, Utc};
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

/// `CLOCK_MONOTONIC_RAW` now.
#[must_use]
pub fn raw() -> Raw {
    Raw(nanoseconds(clock_gettime(ClockId::MonotonicRaw)))
}

/// `CLOCK_REALTIME` now.
#[must_use]
pub fn realtime() -> Utc {
    Utc(nanoseconds(clock_gettime(ClockId::Realtime)))
}

/// `CLOCK_MONOTONIC` now: time since the kernel's timekeeping started.
#[must_use]
pub fn monotonic() -> Nanos {
    Nanos(nanoseconds(clock_gettime(ClockId::Monotonic)))
}

/// `CLOCK_MONOTONIC_COARSE` now: [`monotonic`] as it was at the kernel's last tick.
#[must_use]
pub fn monotonic_coarse() -> Nanos {
    Nanos(nanoseconds(clock_gettime(ClockId::MonotonicCoarse)))
}

/// How far [`monotonic_coarse`] may be behind: the kernel's tick.
#[must_use]
pub fn coarse_tick() -> Nanos {
    Nanos(nanoseconds(clock_getres(ClockId::MonotonicCoarse)))
}

/// `CLOCK_BOOTTIME` now: as [`monotonic`], with the time that the guest was suspended.
#[must_use]
pub fn boottime() -> Nanos {
    Nanos(nanoseconds(clock_gettime(ClockId::Boottime)))
}

/// Processor time that this process has used.
#[must_use]
pub fn cpu_time() -> Nanos {
    Nanos(nanoseconds(clock_gettime(ClockId::ProcessCPUTime)))
}

/// The kernel's form of a span, seconds rounded down so that nanoseconds are in 0..1e9.
#[must_use]
pub fn timespec(span: Nanos) -> Timespec {
    Timespec {
        tv_sec: span.0.div_euclid(1_000_000_000),
        tv_nsec: span.0.rem_euclid(1_000_000_000),
    }
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

/// `CLOCK_REALTIME` read between two readings of `CLOCK_MONOTONIC_RAW`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandwich {
    /// RAW just before.
    pub before: Raw,
    /// REALTIME.
    pub realtime: Utc,
    /// RAW just after.
    pub after: Raw,
}

impl Sandwich {
    /// Reads the three clocks now.
    #[must_use]
    pub fn read() -> Self {
        Self {
            before: raw(),
            realtime: realtime(),
            after: raw(),
        }
    }

    /// The tightest of `count` readings: a preempted one shows by its width.
    #[must_use]
    pub fn tightest(count: usize) -> Self {
        let mut best = Self::read();
        for _ in 1..count {
            let next = Self::read();
            if next.width() < best.width() {
                best = next;
            }
        }
        best
    }

    /// From the first RAW reading to the second.
    #[must_use]
    pub fn width(&self) -> Nanos {
        self.after - self.before
    }

    /// The middle of the two RAW readings; wrong by at most half the width.
    #[must_use]
    pub fn raw(&self) -> Raw {
        self.before + Nanos(self.width().0 / 2)
    }

    /// REALTIME minus RAW, which only steps and slewing change.
    #[must_use]
    pub fn difference(&self) -> Nanos {
        Nanos(self.realtime.0.saturating_sub(self.raw().0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_span_borrows_a_second_so_that_nanoseconds_stay_positive() {
        let time = timespec(Nanos(-1));
        assert_eq!((time.tv_sec, time.tv_nsec), (-1, 999_999_999));
    }

    #[test]
    fn a_sandwich_is_placed_in_its_middle() {
        let sandwich = Sandwich {
            before: Raw(100),
            realtime: Utc(5_150),
            after: Raw(200),
        };
        assert_eq!(sandwich.raw(), Raw(150));
        assert_eq!(sandwich.difference(), Nanos(5_000));
        assert_eq!(sandwich.width(), Nanos(100));
    }

    #[test]
    fn the_kernel_clocks_advance_between_the_slices_of_a_sandwich() {
        let sandwich = Sandwich::tightest(8);
        assert!(sandwich.before <= sandwich.after);
    }
}
