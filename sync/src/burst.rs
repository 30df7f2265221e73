//! A burst of exchanges over the host's time channel, and the one reading that comes of it.
//!
//! An exchange gives t1 (guest, sending), t2 (host, receipt), t3 (host, sending), t4 (guest,
//! receipt). With d1 and d2 the unknown delays there and back, both at least 0, the round trip
//!
//! ```text
//! δ = (t4 - t1) - (t3 - t2) = d1 + d2
//! ```
//!
//! is known, and the host's time at the guest's midpoint (t1 + t4)/2 is (t2 + t3)/2 with an error
//! of (d1 - d2)/2, which is at most δ/2 in magnitude. So of several exchanges the one with the
//! shortest round trip has the tightest bound, and it alone is used.

use noonmark_contract::channel::{Answer, FRAME_LEN, Frame, Request};
use noonmark_contract::sample::ReadFailure;
use noonmark_contract::units::{Nanos, Raw, Utc};

/// How long one exchange may take. An emulated guest under load answers within a few ms.
const EXCHANGE_DEADLINE: Nanos = Nanos::from_millis(60);

/// How long a whole burst may take.
const BURST_DEADLINE: Nanos = Nanos::from_millis(150);

/// What the bound has on top of half the round trip: both clocks are read in whole nanoseconds,
/// and two midpoints are rounded.
const RESOLUTION: Nanos = Nanos(2);

/// What a burst came to: the host's time at an instant of the guest's raw clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The instant, halfway between sending and receipt.
    pub raw: Raw,
    /// The host's time then.
    pub reference: Utc,
    /// The largest error that the exchange itself can have.
    pub bound: Nanos,
}

/// What a [`Burst`] needs next.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Send this frame at once, then ask again. If it can't be sent, drop the burst.
    Send([u8; FRAME_LEN]),
    /// Wait for an answer, but ask again at this instant in any case.
    Wait(Raw),
    /// The burst is over.
    Done(Result<Exchange, ReadFailure>),
}

/// A burst under way. The caller owns the port; this is only what to do with it.
#[derive(Debug)]
pub struct Burst {
    built: Utc,
    remaining: u8,
    sequence: u32,
    waiting_since: Option<Raw>,
    ends: Raw,
    best: Option<Exchange>,
    nonsense: u32,
}

impl Burst {
    /// Plans `exchanges` exchanges (at least one) whose sequence numbers begin after
    /// `last_sequence`. A host time before `built` is not believed.
    #[must_use]
    pub fn new(last_sequence: u32, exchanges: u8, built: Utc, now: Raw) -> Self {
        Self {
            built,
            remaining: exchanges.max(1),
            sequence: last_sequence,
            waiting_since: None,
            ends: now + BURST_DEADLINE,
            best: None,
            nonsense: 0,
        }
    }

    /// What to do at `now`, which should be read right before: it becomes `t1` of what is sent.
    pub fn next(&mut self, now: Raw) -> Next {
        if let Some(sent) = self.waiting_since {
            let until = (sent + EXCHANGE_DEADLINE).min(self.ends);
            if now < until {
                return Next::Wait(until);
            }
            self.waiting_since = None;
        }
        if self.remaining == 0 || now >= self.ends {
            return Next::Done(self.outcome());
        }
        self.remaining -= 1;
        self.sequence = self.sequence.wrapping_add(1);
        self.waiting_since = Some(now);
        let request = Request {
            sequence: self.sequence,
            t1: now,
        };
        Next::Send(request.encode())
    }

    /// Takes in an answer that came at `t4`. One that was not asked for, or comes too late, is
    /// ignored; one that cannot be true ends its exchange.
    pub fn on_answer(&mut self, answer: &Answer, t4: Raw) {
        let Some(t1) = self.waiting_since else {
            return;
        };
        if answer.sequence != self.sequence || answer.t1 != t1 {
            return;
        }
        self.waiting_since = None;
        let Some(exchange) = evaluate(answer, t4, self.built) else {
            self.nonsense += 1;
            return;
        };
        if self.best.is_none_or(|best| exchange.bound < best.bound) {
            self.best = Some(exchange);
        }
    }

    /// The sequence number used last, to go on from in the next burst.
    #[must_use]
    pub fn last_sequence(&self) -> u32 {
        self.sequence
    }

    fn outcome(&self) -> Result<Exchange, ReadFailure> {
        self.best.ok_or(if self.nonsense > 0 {
            ReadFailure::Garbage
        } else {
            ReadFailure::Timeout
        })
    }
}

/// What one exchange says, unless its times contradict each other.
fn evaluate(answer: &Answer, t4: Raw, built: Utc) -> Option<Exchange> {
    let held = answer.t3 - answer.t2;
    let total = t4 - answer.t1;
    let possible = answer.t2 >= built
        && answer.t3 <= Utc::LATEST
        && held >= Nanos::ZERO
        && total >= Nanos::ZERO
        && held <= total;
    possible.then(|| Exchange {
        raw: answer.t1 + Nanos(total.0 / 2),
        reference: answer.t2 + Nanos(held.0 / 2),
        bound: Nanos((total - held).0 / 2) + RESOLUTION,
    })
}

#[cfg(test)]
mod tests {
    use noonmark_contract::channel::{Decoder, answer};

    use super::*;

    const BUILT: Utc = Utc(1_700_000_000_000_000_000);
    const HOST: Utc = Utc(1_800_000_000_000_000_000);

    /// Reads what the burst sends, or fails the test.
    fn sent(next: Next) -> Request {
        let Next::Send(frame) = next else {
            panic!("expected a request, got {next:?}");
        };
        let mut decoder = Decoder::<Request>::default();
        decoder.push(&frame);
        decoder
            .next_frame()
            .expect("the burst's own frame is sound")
    }

    /// The host's answer, as the guest's decoder sees it.
    fn answered(request: &Request, t2: Utc, t3: Utc) -> Answer {
        let mut decoder = Decoder::<Answer>::default();
        decoder.push(&answer(request, t2, t3));
        decoder.next_frame().expect("the host's own frame is sound")
    }

    /// A burst of exchanges that take the given round trips in ns, the host always at `HOST`.
    fn run(round_trips: &[i64]) -> Result<Exchange, ReadFailure> {
        let mut burst = Burst::new(0, round_trips.len() as u8, BUILT, Raw(0));
        let mut now = Raw(0);
        for &round_trip in round_trips {
            let request = sent(burst.next(now));
            now = now + Nanos(round_trip);
            burst.on_answer(&answered(&request, HOST, HOST), now);
        }
        match burst.next(now) {
            Next::Done(outcome) => outcome,
            other => panic!("the burst goes on: {other:?}"),
        }
    }

    #[test]
    fn the_shortest_round_trip_wins_and_half_of_it_is_the_bound() {
        let best = run(&[900_000, 100_000, 400_000]).expect("all were answered");
        assert_eq!(best.raw, Raw(950_000));
        assert_eq!(best.reference, HOST);
        assert_eq!(best.bound, Nanos(50_002));
    }

    #[test]
    fn the_time_that_the_host_holds_the_request_is_not_part_of_the_round_trip() {
        let mut burst = Burst::new(9, 1, BUILT, Raw(0));
        let request = sent(burst.next(Raw(0)));
        let held = Nanos(60_000);
        burst.on_answer(&answered(&request, HOST, HOST + held), Raw(100_000));
        let Next::Done(Ok(exchange)) = burst.next(Raw(100_000)) else {
            panic!("one answer is enough");
        };
        assert_eq!(exchange.bound, Nanos(20_002));
        assert_eq!(exchange.reference, HOST + Nanos(30_000));
        assert_eq!(exchange.raw, Raw(50_000));
    }

    #[test]
    fn silence_ends_in_a_timeout_no_later_than_the_bursts_deadline() {
        let mut burst = Burst::new(0, 8, BUILT, Raw(0));
        let mut now = Raw(0);
        for _ in 0..40 {
            match burst.next(now) {
                Next::Send(_) => {}
                Next::Wait(until) => now = until,
                Next::Done(outcome) => {
                    assert_eq!(outcome, Err(ReadFailure::Timeout));
                    assert!(now <= Raw(0) + BURST_DEADLINE);
                    return;
                }
            }
        }
        panic!("the burst never ends");
    }

    #[test]
    fn an_answer_to_an_earlier_request_is_ignored() {
        let mut burst = Burst::new(0, 2, BUILT, Raw(0));
        let first = sent(burst.next(Raw(0)));
        let second = sent(burst.next(Raw(0) + EXCHANGE_DEADLINE));
        let now = Raw(0) + EXCHANGE_DEADLINE + Nanos(1_000);
        burst.on_answer(&answered(&first, HOST, HOST), now);
        assert!(matches!(burst.next(now), Next::Wait(_)));
        burst.on_answer(&answered(&second, HOST, HOST), now);
        assert!(matches!(burst.next(now), Next::Done(Ok(_))));
    }

    #[test]
    fn impossible_times_are_garbage() {
        let impossible = [
            (BUILT - Nanos(1), BUILT, "before the image was built"),
            (HOST, HOST - Nanos(1), "sent before received"),
            (
                HOST,
                HOST + Nanos(200_000),
                "held longer than the round trip",
            ),
            (HOST, Utc::LATEST + Nanos(1), "far in the future"),
            (Utc(i64::MIN), Utc(i64::MAX), "the ends of the scale"),
        ];
        for (t2, t3, what) in impossible {
            let mut burst = Burst::new(0, 1, BUILT, Raw(0));
            let request = sent(burst.next(Raw(0)));
            burst.on_answer(&answered(&request, t2, t3), Raw(100_000));
            assert_eq!(
                burst.next(Raw(100_000)),
                Next::Done(Err(ReadFailure::Garbage)),
                "{what}"
            );
        }
    }
}
