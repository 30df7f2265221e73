//! What a machine's kernel says of its own clock, as adjtimex(2) has it: how far it may be from UTC.
//!
//! A guest that follows its host to a microsecond is as far from UTC as the host, so that a bound that
//! means something outside has the host's in it.

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// What the kernel has for `maxerror` where nobody keeps its clock: 16 s (NTP_PHASE_LIMIT in
/// include/linux/timex.h). It grows up to that by 500 ppm where nobody says anything new.
pub const NOT_KEPT: Nanos = Nanos::from_secs(16);

/// The kernel's figures, all of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostClock {
    /// `maxerror`: the largest error against UTC.
    pub maxerror_ns: Nanos,
    /// `esterror`: the error that is to be expected.
    pub esterror_ns: Nanos,
    /// STA_UNSYNC. It says less than `maxerror`: daemons keep it set so that the kernel doesn't write the
    /// RTC (chronyd without `rtcsync`).
    pub unsync: bool,
    /// TAI minus UTC in seconds; 0 where nobody has told the kernel.
    pub tai_offset_s: i32,
    /// What the end of the day brings.
    #[serde(default)]
    pub leap: Leap,
}

/// An announced leap second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leap {
    /// None is announced.
    #[default]
    None,
    /// STA_INS: the day has a second more.
    Insert,
    /// STA_DEL: the day has a second less.
    Delete,
}

impl HostClock {
    /// Whether somebody keeps that clock, to within what `maxerror` says.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.maxerror_ns < NOT_KEPT
    }

    /// `maxerror` so much later, if nothing new was said: it grows by 500 ppm, as in the kernel.
    #[must_use]
    pub fn maxerror_after(&self, age: Nanos) -> Nanos {
        self.maxerror_ns + age.raw_skew()
    }

    /// In three numbers, for a frame of the time channel.
    #[must_use]
    pub fn to_numbers(&self) -> [i64; 3] {
        let leap = match self.leap {
            Leap::None => 0,
            Leap::Insert => 1,
            Leap::Delete => 2,
        };
        let rest = i64::from(self.tai_offset_s.cast_unsigned()) | leap << 32;
        let unsync = i64::from(self.unsync) << 40;
        [self.maxerror_ns.0, self.esterror_ns.0, rest | unsync]
    }

    /// The figures of those numbers, if they can be some. Bits without a meaning yet are ignored.
    #[must_use]
    pub fn from_numbers([maxerror, esterror, rest]: [i64; 3]) -> Option<Self> {
        let leap = match (rest >> 32) & 0xff {
            0 => Leap::None,
            1 => Leap::Insert,
            2 => Leap::Delete,
            _ => return None,
        };
        let sound = maxerror >= 0 && esterror >= 0;
        sound.then_some(Self {
            maxerror_ns: Nanos(maxerror),
            esterror_ns: Nanos(esterror),
            unsync: rest >> 40 & 1 == 1,
            tai_offset_s: rest as i32,
            leap,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: HostClock = HostClock {
        maxerror_ns: Nanos(250_000),
        esterror_ns: Nanos(1_000),
        unsync: true,
        tai_offset_s: -37,
        leap: Leap::Delete,
    };

    #[test]
    fn what_the_numbers_say_is_what_was_put_into_them() {
        for clock in [
            CLOCK,
            HostClock {
                unsync: false,
                tai_offset_s: 37,
                leap: Leap::None,
                ..CLOCK
            },
        ] {
            assert_eq!(HostClock::from_numbers(clock.to_numbers()), Some(clock));
        }
        assert_eq!(HostClock::from_numbers([-1, 0, 0]), None);
        assert_eq!(HostClock::from_numbers([0, 0, 3 << 32]), None);
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_told_by_its_maxerror_and_not_by_the_flag() {
        assert!(CLOCK.is_kept());
        let never = HostClock {
            maxerror_ns: NOT_KEPT,
            unsync: false,
            ..CLOCK
        };
        assert!(!never.is_kept());
    }

    #[test]
    fn an_old_word_is_worth_500_ppm_of_its_age_less() {
        let later = CLOCK.maxerror_after(Nanos::from_secs(10));
        assert_eq!(later, Nanos(250_000 + 5_000_000));
    }
}
