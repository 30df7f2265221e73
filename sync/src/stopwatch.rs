//! The processor's own counter beside RAW: whether the machine stood still.
//!
//! Under KVM a paused machine's clocks stand still, RAW among them, for the clock that it counts by
//! (`kvm-clock`) is set back to where it was. Its processor's counter is the host's, and runs on. So
//! between two looks
//!
//! ```text
//! stood still = Δticks / ticks per ns - ΔRAW
//! ```
//!
//! which tells a pause, after which the host's time is ahead by just as much, from a host whose clock
//! was set forward, where it is nothing. An emulated counter stands still with the machine, and a
//! restored one begins anew, so that the difference is taken for a pause only where it agrees with how
//! far the host's time has moved; and that there is none is proof only where the counter is known to
//! run on.

use libm::fabs;
use noonmark_contract::units::{Nanos, Raw};

/// The ticks of a nanosecond are measured over at least this long.
const MEASURED: Nanos = Nanos::from_secs(1);

/// A difference of the two beyond this part of the time, and beyond this, is a pause.
const SHARE: f64 = 0.002;
const LEAST: Nanos = Nanos::from_micros(500);

/// Both counters at an instant.
#[derive(Clone, Copy, Debug)]
struct Lap {
    raw: Raw,
    ticks: u64,
}

/// Ticks against RAW, since the machine last stood still.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    first: Option<Lap>,
    last: Option<Lap>,
    /// Known once measured for long enough, and from then on.
    ticks_per_ns: Option<f64>,
    stood_still: Nanos,
    at: Option<Raw>,
}

impl Stopwatch {
    /// Takes in what both counters say now.
    pub fn look(&mut self, raw: Raw, ticks: u64) {
        let now = Lap { raw, ticks };
        let (Some(first), Some(last)) = (self.first, self.last) else {
            (self.first, self.last) = (Some(now), Some(now));
            return;
        };
        if let Some(ticks_per_ns) = self.ticks_per_ns {
            let elapsed = (raw - last.raw).0 as f64;
            let passed = ticks.wrapping_sub(last.ticks) as i64 as f64 / ticks_per_ns;
            let difference = passed - elapsed;
            if fabs(difference) > LEAST.0 as f64 + SHARE * elapsed {
                self.stood_still = Nanos(difference as i64);
                self.at = Some(raw);
                self.first = Some(now);
            }
        }
        let measured = raw - first.raw;
        if measured >= MEASURED && self.first.is_some_and(|lap| lap.raw == first.raw) {
            let gained = ticks.wrapping_sub(first.ticks) as f64;
            self.ticks_per_ns = (gained > 0.0).then(|| gained / measured.0 as f64);
        }
        self.last = Some(now);
    }

    /// For how long the machine stood still at some time since `since`; none where that is not known.
    pub fn stood_still(&self, since: Raw) -> Option<Nanos> {
        self.ticks_per_ns?;
        match self.at {
            Some(at) if at >= since => Some(self.stood_still),
            _ => Some(Nanos::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 2.4 ticks a nanosecond that has run for two seconds.
    fn running() -> Stopwatch {
        let mut stopwatch = Stopwatch::default();
        for tick in 0..=100 {
            stopwatch.look(Raw(tick * 20_000_000), 7 + tick as u64 * 48_000_000);
        }
        stopwatch
    }

    #[test]
    fn a_pause_shows_and_running_on_does_not() {
        let mut stopwatch = running();
        let now = 2_000_000_000;
        assert_eq!(stopwatch.stood_still(Raw(0)), Some(Nanos::ZERO));
        let pause = 3_000_000_000;
        let ticks = (now + 20_000_000 + pause) as u64 * 12 / 5;
        stopwatch.look(Raw(now + 20_000_000), ticks);
        let stood = stopwatch.stood_still(Raw(now)).expect("it is known");
        assert!(
            (stood - Nanos(pause)).abs() < Nanos::from_micros(10),
            "{stood}"
        );
        assert_eq!(
            stopwatch.stood_still(Raw(now + 30_000_000)),
            Some(Nanos::ZERO)
        );
    }

    #[test]
    fn nothing_is_known_before_it_was_measured() {
        let mut stopwatch = Stopwatch::default();
        stopwatch.look(Raw(0), 5);
        stopwatch.look(Raw(20_000_000), 48_000_005);
        assert_eq!(stopwatch.stood_still(Raw(0)), None);
    }
}
