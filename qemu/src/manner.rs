//! How the host answers on the time channel: honestly, or in one of the ways in which a host can
//! be wrong, so that a guest can be shown to see through it.

use std::thread;
use std::time::Duration;

use noonmark_contract::channel::{self, FRAME_LEN, Request};
use noonmark_contract::units::{Nanos, Ppb, Utc};

/// How a time server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Manner {
    /// By the host's clock, at once.
    #[default]
    Honest,
    /// The host's clock plus this.
    Ahead(Nanos),
    /// The host's clock, running away from the truth since then.
    Drifting {
        /// How fast.
        rate: Ppb,
        /// Until when it was right.
        since: Utc,
    },
    /// Bytes that are no answer.
    Garbage,
    /// The host's time, but each answer leaves only after this; the time in it is that of its
    /// making, so that what it took shows as asymmetry alone.
    Late(Duration),
    /// Not at all.
    Silent,
}

/// What is said to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// These bytes.
    Frame([u8; FRAME_LEN]),
    /// Nothing.
    Nothing,
}

impl Manner {
    /// What to say to `request`, which came in at `t2` of the host's clock. Takes as long as this
    /// manner makes it take.
    pub(crate) fn answer(
        self,
        request: &Request,
        t2: Utc,
        clock: &mut impl FnMut() -> Utc,
    ) -> Said {
        let shifted = |by: Nanos, t3: Utc| channel::answer(request, t2 + by, t3 + by);
        let now = clock();
        Said::Frame(match self {
            Self::Honest => shifted(Nanos::ZERO, now),
            Self::Ahead(by) => shifted(by, now),
            Self::Drifting { rate, since } => shifted(rate.over(now - since), now),
            Self::Garbage => shifted(Nanos::ZERO, now).map(|byte| !byte),
            Self::Late(by) => {
                let frame = shifted(Nanos::ZERO, now);
                thread::sleep(by);
                frame
            }
            Self::Silent => return Said::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
    use noonmark_contract::channel::{Answer, Decoder};
    use noonmark_contract::units::Raw;

    use super::*;

    fn said(manner: Manner) -> Option<Answer> {
        let request = Request {
            sequence: 3,
            t1: Raw(9),
        };
        let mut clock = || Utc(2_000_000_050);
        let Said::Frame(frame) = manner.answer(&request, Utc(2_000_000_000), &mut clock) else {
            return None;
        };
        let mut decoder = Decoder::<Answer>::default();
        decoder.push(&frame);
        decoder.next_frame()
    }

    #[test]
    fn an_honest_host_says_when_it_was_asked_and_when_it_answered() {
        let answer = said(Manner::Honest).unwrap();
        assert_eq!(
            (answer.t2, answer.t3),
            (Utc(2_000_000_000), Utc(2_000_000_050))
        );
        let late = said(Manner::Late(Duration::from_millis(1))).unwrap();
        assert_eq!(late, answer);
    }

    #[test]
    fn a_lie_is_the_same_in_both_times_so_that_no_round_trip_shows_it() {
        let ahead = said(Manner::Ahead(Nanos::from_secs(3600))).unwrap();
        assert_eq!(ahead.t3 - ahead.t2, Nanos(50));
        assert_eq!(ahead.t2, Utc(3_602_000_000_000));
        let drifting = said(Manner::Drifting {
            rate: Ppb(1_000_000.0),
            since: Utc(1_000_000_050),
        });
        assert_eq!(drifting.unwrap().t3, Utc(2_001_000_050));
    }

    #[test]
    fn garbage_is_no_answer_and_silence_is_nothing() {
        assert_eq!(said(Manner::Garbage), None);
        let request = Request {
            sequence: 1,
            t1: Raw(0),
        };
        let said = Manner::Silent.answer(&request, Utc(0), &mut || Utc(1));
        assert_eq!(said, Said::Nothing);
    }
}
