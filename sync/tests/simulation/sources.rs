//! The simulated reference sources: truechimers with noise, failing ones, and falsetickers.

use fastrand::Rng;
use noonmark_contract::sample::{Method, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Ppb, Utc};

use crate::clocks::Clocks;

/// How a source behaves at present.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// It says what it knows, within its bound.
    Truechimer,
    /// The device or port is gone.
    Absent,
    /// The device refuses.
    Refused,
    /// Nothing comes back.
    Silent,
    /// What comes back is no answer.
    Garbage,
    /// Answers take this long, and say so by their bound.
    Late(Nanos),
    /// It is wrong by this.
    Off(Nanos),
    /// It runs wrong from an instant of physical time on.
    Drifting {
        /// How fast.
        rate: Ppb,
        /// Since when, in ns.
        since: i64,
    },
    /// One reading in this many is wrong by up to as much, either way.
    Outliers {
        /// How many.
        one_in: u32,
        /// How much, at most.
        by: Nanos,
    },
}

/// A reading, or a failure, that the shell gets after some time.
#[derive(Debug)]
pub struct Answer {
    /// How long it takes, in ns.
    pub after: i64,
    /// What the source's clock is wrong by, or why it gives nothing.
    pub outcome: Result<Claim, ReadFailure>,
}

/// What the source will say: its error against the host's clock, and its bound.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    error: Nanos,
    bound: Nanos,
    method: Method,
    whole_seconds: bool,
}

/// How long the shell waits for the host's channel.
const DEADLINE: i64 = 150_000_000;

/// Asks a source.
pub fn ask(
    source: &Source,
    behaviour: Behaviour,
    exchanges: u8,
    now: i64,
    rng: &mut Rng,
) -> Answer {
    let truechimer = match source {
        Source::Rtc => rtc(rng),
        Source::Host | Source::Ntp => host(exchanges, rng),
        Source::Phc(_) => phc(rng),
        _ => precise(rng),
    };
    let Answer { after, outcome } = truechimer;
    let wrong_by = |error: Nanos| Answer {
        after,
        outcome: outcome.map(|claim| Claim {
            error: claim.error + error,
            ..claim
        }),
    };
    let fails = |after: i64, why: ReadFailure| Answer {
        after,
        outcome: Err(why),
    };
    match behaviour {
        Behaviour::Truechimer => wrong_by(Nanos::ZERO),
        Behaviour::Absent => fails(2_000, ReadFailure::Absent),
        Behaviour::Refused => fails(2_000, ReadFailure::Refused(95)),
        Behaviour::Silent => fails(DEADLINE, ReadFailure::Timeout),
        Behaviour::Garbage => fails(after, ReadFailure::Garbage),
        Behaviour::Late(round_trip) => late(round_trip, rng),
        Behaviour::Off(by) => wrong_by(by),
        Behaviour::Drifting { rate, since } => wrong_by(rate.over(Nanos(now - since))),
        Behaviour::Outliers { one_in, by } => {
            let strikes = rng.u32(0..one_in) == 0;
            let by = Nanos(rng.i64(-by.0..=by.0));
            wrong_by(if strikes { by } else { Nanos::ZERO })
        }
    }
}

impl Claim {
    /// The reading that the shell makes of it at this instant.
    pub fn reading(&self, source: Source, clocks: &Clocks) -> Reading {
        let mut reference = clocks.host() + self.error;
        if self.whole_seconds {
            let second = 1_000_000_000;
            reference = Utc(reference.0.div_euclid(second) * second + second / 2);
        }
        Reading {
            source,
            method: self.method,
            reference,
            realtime: clocks.realtime(),
            raw: clocks.raw(),
            bound: self.bound,
        }
    }
}

/// An answer that is wrong by up to `error` either way.
fn answer(after: i64, error: i64, bound: i64, method: Method, rng: &mut Rng) -> Answer {
    Answer {
        after,
        outcome: Ok(Claim {
            error: Nanos(rng.i64(-error..=error)),
            bound: Nanos(bound),
            method,
            whole_seconds: false,
        }),
    }
}

fn precise(rng: &mut Rng) -> Answer {
    let after = rng.i64(3_000..12_000);
    answer(after, 4, 10, Method::Precise, rng)
}

fn phc(rng: &mut Rng) -> Answer {
    let half = rng.i64(800..6_000) / 2;
    let after = rng.i64(3_000..12_000);
    answer(after, half, half + 1, Method::Extended, rng)
}

fn host(exchanges: u8, rng: &mut Rng) -> Answer {
    let round_trip = |rng: &mut Rng| 80_000 + (-(1.0 - rng.f64()).ln() * 120_000.0) as i64;
    let mut after = 0;
    let mut best = i64::MAX;
    for _ in 0..exchanges {
        let took = round_trip(rng);
        after += took;
        best = best.min(took);
    }
    answer(after, best / 2, best / 2 + 2, Method::RoundTrip, rng)
}

fn late(round_trip: Nanos, rng: &mut Rng) -> Answer {
    let half = round_trip.0 / 2;
    if round_trip.0 >= DEADLINE {
        return Answer {
            after: DEADLINE,
            outcome: Err(ReadFailure::Timeout),
        };
    }
    answer(round_trip.0, half, half + 2, Method::RoundTrip, rng)
}

fn rtc(rng: &mut Rng) -> Answer {
    Answer {
        after: rng.i64(20_000..200_000),
        outcome: Ok(Claim {
            error: Nanos::ZERO,
            bound: Nanos(500_000_001),
            method: Method::Rtc,
            whole_seconds: true,
        }),
    }
}
