//! How far the clock may be from UTC, which is more than from its source: a host that is followed to a
//! microsecond may itself be seconds off.
//!
//! With b the engine's bound to the source, e the host's own `maxerror` of a time ago, which grows by
//! 500 ppm, the clock is within b + e of UTC, for errors add up. Time servers state their distance from
//! UTC themselves, and it is in b already. What says nothing of itself, an RTC or a PHC that somebody
//! else keeps, leaves it unknown.

use noonmark_contract::host_clock::HostClock;
use noonmark_contract::record::{State, UtcUnknown};
use noonmark_contract::sample::Source;
use noonmark_contract::units::Nanos;

/// A host's word counts for so long, then it is silent: it is asked every 10 s.
const WORD_COUNTS: Nanos = Nanos::from_secs(60);

/// The bound to UTC of a clock that is within `bound` of `source`; `host` is what the host said of its
/// own clock, and how long ago.
///
/// # Errors
/// [`UtcUnknown`].
pub fn bound(
    state: State,
    source: Option<&Source>,
    bound: Nanos,
    host: Option<(HostClock, Nanos)>,
) -> Result<Nanos, UtcUnknown> {
    let Some(source) = source.filter(|_| state != State::Unsynced && bound < Nanos::MAX) else {
        return Err(UtcUnknown::ClockUnsynced);
    };
    if *source == Source::Ntp {
        return Ok(bound);
    }
    if !source.is_host_clock() {
        return Err(UtcUnknown::SourceSilent);
    }
    match host.filter(|(_, age)| *age <= WORD_COUNTS) {
        Some((clock, _)) if !clock.is_kept() => Err(UtcUnknown::HostUnsynced),
        Some((clock, age)) => Ok(bound + clock.maxerror_after(age)),
        None => Err(UtcUnknown::HostSilent),
    }
}

#[cfg(test)]
mod tests {
    use noonmark_contract::host_clock::{Leap, NOT_KEPT};

    use super::*;

    const BOUND: Nanos = Nanos(700);
    const HOST: HostClock = HostClock {
        maxerror_ns: Nanos::from_millis(3),
        esterror_ns: Nanos(1_000),
        unsync: true,
        tai_offset_s: 37,
        leap: Leap::None,
    };

    fn of(source: &Source, host: Option<(HostClock, Nanos)>) -> Result<Nanos, UtcUnknown> {
        bound(State::Synced, Some(source), BOUND, host)
    }

    #[test]
    fn the_hosts_error_is_added_and_grows_with_the_age_of_its_word() {
        for source in [Source::Kvm, Source::Host, Source::Vmclock] {
            let fresh = of(&source, Some((HOST, Nanos::ZERO)));
            assert_eq!(fresh, Ok(BOUND + Nanos::from_millis(3)));
            let old = of(&source, Some((HOST, Nanos::from_secs(10))));
            assert_eq!(old, Ok(BOUND + Nanos::from_millis(3 + 5)));
        }
    }

    #[test]
    fn a_host_that_nobody_keeps_or_that_is_silent_leaves_it_unknown() {
        let never = HostClock {
            maxerror_ns: NOT_KEPT,
            ..HOST
        };
        let never = of(&Source::Kvm, Some((never, Nanos::ZERO)));
        assert_eq!(never, Err(UtcUnknown::HostUnsynced));
        assert_eq!(of(&Source::Kvm, None), Err(UtcUnknown::HostSilent));
        let long_ago = Some((HOST, Nanos::from_secs(61)));
        assert_eq!(of(&Source::Kvm, long_ago), Err(UtcUnknown::HostSilent));
    }

    #[test]
    fn a_source_that_is_not_the_host_speaks_for_itself_or_not_at_all() {
        let host = Some((HOST, Nanos::ZERO));
        assert_eq!(of(&Source::Ntp, None), Ok(BOUND));
        let silent = Err(UtcUnknown::SourceSilent);
        assert_eq!(of(&Source::Rtc, host), silent);
        assert_eq!(of(&Source::Phc("igb".into()), host), silent);
        let unsynced = bound(State::Unsynced, Some(&Source::Kvm), BOUND, host);
        assert_eq!(unsynced, Err(UtcUnknown::ClockUnsynced));
    }
}
