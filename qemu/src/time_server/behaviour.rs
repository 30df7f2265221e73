//! How the host answers on the time channel: as a truechimer, or as one of several falsetickers, so
//! that a guest can be shown to reject them.

use std::thread;
use std::time::Duration;

use noonmark_contract::channel::{self, FRAME_LEN, Request};
use noonmark_contract::units::{Nanos, Ppb, Utc};

/// How a time server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Behaviour {
    /// By the host's clock, at once.
    #[default]
    Truechimer,
    /// By the host's clock plus this.
    Offset(Nanos),
    /// By a clock that was the host's until an instant and has run at another rate since.
    Drift {
        /// The rate's difference from the host's clock.
        rate: Ppb,
        /// Until when it was right.
        since: Utc,
    },
    /// Bytes that are no answer.
    Garbage,
    /// By the host's clock, but each answer leaves only after this; the time in it is that of its
    /// making, so that what it took shows as asymmetry alone.
    Delay(Duration),
    /// Not at all.
    Silent,
}

impl Behaviour {
    /// The answer to `request`, which came in at `t2` of the host's clock; none where there is to be
    /// none. Takes as long as this behaviour makes it take.
    pub(super) fn answer(
        self,
        request: &Request,
        t2: Utc,
        clock: &mut impl FnMut() -> Utc,
    ) -> Option<[u8; FRAME_LEN]> {
        let shifted = |by: Nanos, t3: Utc| channel::answer(request, t2 + by, t3 + by);
        let now = clock();
        match self {
            Self::Truechimer => Some(shifted(Nanos::ZERO, now)),
            Self::Offset(by) => Some(shifted(by, now)),
            Self::Drift { rate, since } => Some(shifted(rate.over(now - since), now)),
            Self::Garbage => Some(shifted(Nanos::ZERO, now).map(|byte| !byte)),
            Self::Delay(by) => {
                let frame = shifted(Nanos::ZERO, now);
                thread::sleep(by);
                Some(frame)
            }
            Self::Silent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use noonmark_contract::channel::{Answer, Decoder};
    use noonmark_contract::units::Raw;

    use super::*;

    fn answered(behaviour: Behaviour) -> Option<Answer> {
        let request = Request {
            sequence: 3,
            t1: Raw(9),
        };
        let mut clock = || Utc(2_000_000_050);
        let frame = behaviour.answer(&request, Utc(2_000_000_000), &mut clock)?;
        let mut decoder = Decoder::<Answer>::default();
        decoder.push(&frame);
        decoder.next_frame()
    }

    #[test]
    fn a_truechimer_says_when_it_was_asked_and_when_it_answered() {
        let answer = answered(Behaviour::Truechimer).unwrap();
        assert_eq!(
            (answer.t2, answer.t3),
            (Utc(2_000_000_000), Utc(2_000_000_050))
        );
        let late = answered(Behaviour::Delay(Duration::from_millis(1))).unwrap();
        assert_eq!(late, answer);
    }

    #[test]
    fn a_falseticker_s_offset_is_the_same_in_both_times_so_that_no_round_trip_shows_it() {
        let ahead = answered(Behaviour::Offset(Nanos::from_secs(3600))).unwrap();
        assert_eq!(ahead.t3 - ahead.t2, Nanos(50));
        assert_eq!(ahead.t2, Utc(3_602_000_000_000));
        let drifting = answered(Behaviour::Drift {
            rate: Ppb(1_000_000.0),
            since: Utc(1_000_000_050),
        });
        assert_eq!(drifting.unwrap().t3, Utc(2_001_000_050));
    }

    #[test]
    fn garbage_is_no_answer_and_silence_is_nothing() {
        assert_eq!(answered(Behaviour::Garbage), None);
        let request = Request {
            sequence: 1,
            t1: Raw(0),
        };
        let silence = Behaviour::Silent.answer(&request, Utc(0), &mut || Utc(1));
        assert_eq!(silence, None);
    }
}
