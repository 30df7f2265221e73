//! Watching a clock that nobody disturbs, piece by piece, so that a long watch tells how far it is and
//! one that is ended early has measured something.
//!
//! The truth is ptp_kvm's clock as the fault program reads it. A guest without it can be watched all
//! the same where PID 1 keeps the clock: from outside, by exchanges over the test port, each of which
//! is wrong by at most half its round trip.

use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::record::Status;
use noonmark_contract::testport;
use noonmark_contract::units::{Nanos, Utc};

use crate::fault::Plan;
use crate::report::steady::{Cost, KeptBy, Piece, Reading, SteadyState, Truth};
use crate::run::SampleError;
use crate::run::session::{Session, nanos};

use super::guest::{Guest, LOOK};

/// Time between two readings in a watch of up to an hour.
const EVERY: Duration = Duration::from_millis(100);

/// The most readings of one watch.
const READINGS_MAX: u32 = 36_000;

/// Exchanges of which the one with the shortest round trip is a reading.
const BURST: usize = 8;

/// After so much time there is something to tell.
const PIECE: Duration = Duration::from_secs(10);

/// How near the truth a clock must be before it is watched.
pub(crate) const RIGHT_BEFORE: Nanos = Nanos::from_micros(100);

/// What PID 1 says of the clock in a status record.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// `CLOCK_BOOTTIME` and `CLOCK_REALTIME` of the record.
    uptime: Nanos,
    time: Utc,
    bound: Nanos,
    cost: Cost,
}

impl Claim {
    fn of(status: &Status) -> Self {
        Self {
            uptime: status.uptime_ns,
            time: status.time_ns,
            bound: status.bound_ns,
            cost: Cost {
                cpu_ppm: status.init.cpu_ppm,
                rss_kib: status.init.rss_kib,
            },
        }
    }
}

/// A watch under way.
pub(crate) struct Watch<'a, 'g> {
    guest: &'a mut Guest<'g>,
    kept_by: KeptBy<'a>,
    truth: Truth,
    every: Duration,
    /// The last one of the piece before, and all of this piece.
    claims: Vec<Claim>,
}

impl<'a, 'g> Watch<'a, 'g> {
    /// Waits until the clock is right.
    pub(crate) fn begin(
        guest: &'a mut Guest<'g>,
        kept_by: KeptBy<'a>,
        span: Duration,
    ) -> Result<Self, SampleError> {
        let truth = match guest.look() {
            Ok(_) => Truth::PtpKvm,
            Err(SampleError::Refused(_)) if kept_by == KeptBy::Init => Truth::Host,
            Err(error) => return Err(error),
        };
        let watch = Self {
            claims: Vec::new(),
            guest,
            kept_by,
            truth,
            every: EVERY.max(span / READINGS_MAX),
        };
        match truth {
            Truth::PtpKvm => watch.guest.wait_right(RIGHT_BEFORE)?,
            Truth::Host => {
                let plan = Plan::new(Vec::new());
                watch.guest.settle(RIGHT_BEFORE, |guest| {
                    thread::sleep(LOOK);
                    let (_, reading) = guest.ask(&plan, exchange)?;
                    Ok(reading.provable())
                })?;
            }
        }
        Ok(watch)
    }

    /// How long the guest has been up.
    pub(crate) fn warm_up(&self) -> Nanos {
        nanos(self.guest.up())
    }

    /// Watches for `span`, and hands what was seen so far to `progress` after each piece. Whatever was
    /// seen until then is in `state` also where it fails.
    pub(crate) fn go_on(
        &mut self,
        span: Duration,
        state: &mut SteadyState,
        progress: &mut dyn FnMut(&SteadyState),
    ) -> Result<(), SampleError> {
        state.truth = self.truth;
        let mut left = span;
        while !left.is_zero() {
            // What is left over from whole pieces belongs to the last one.
            let piece = if left >= PIECE * 2 { PIECE } else { left };
            let seen = match self.truth {
                Truth::PtpKvm => self.by_ptp_kvm(piece)?,
                Truth::Host => self.by_exchanges(piece)?,
            };
            state.add(seen);
            progress(state);
            left -= piece;
        }
        Ok(())
    }

    fn by_ptp_kvm(&mut self, span: Duration) -> Result<Piece, SampleError> {
        let every = self.every.min(span / 10).max(Duration::from_millis(1));
        let seen = self.guest.watch(span, every)?;
        self.hear();
        let keeper = seen.processes.iter().find(|one| self.kept_by.is(one));
        let cost = keeper.map(|process| Cost {
            cpu_ppm: share_ppm(process.cpu_ns, seen.span_ns),
            rss_kib: process.rss_kib,
        });
        Ok(Piece {
            readings: self.readings(&seen, every),
            failed: seen.failed,
            span: seen.span_ns,
            cost,
        })
    }

    fn readings(&self, seen: &testport::Steady, every: Duration) -> Vec<Reading> {
        // With a reading missing nobody can tell when the others were made.
        let timed = self.kept_by == KeptBy::Init && seen.failed == 0;
        let mut at = seen.began_at_ns;
        let mut readings = Vec::with_capacity(seen.offsets_ns.len());
        for &offset in &seen.offsets_ns {
            let bound = timed.then(|| self.claimed(|claim| (claim.uptime - at).abs()));
            readings.push(Reading {
                offset,
                off: Nanos::ZERO,
                bound: bound.flatten(),
            });
            at += nanos(every);
        }
        readings
    }

    fn by_exchanges(&mut self, span: Duration) -> Result<Piece, SampleError> {
        let plan = Plan::new(Vec::new());
        let began = Instant::now();
        let mut due = began;
        let mut seen = Vec::new();
        while due < began + span {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += self.every;
            seen.push(self.guest.ask(&plan, exchange)?);
        }
        thread::sleep((began + span).saturating_duration_since(Instant::now()));
        let span = nanos(began.elapsed());
        self.hear();
        let readings = seen.into_iter().map(|(at, reading)| Reading {
            bound: self.claimed(|claim| (claim.time - at).abs()),
            ..reading
        });
        Ok(Piece {
            readings: readings.collect(),
            failed: 0,
            span,
            cost: self.own_account(),
        })
    }

    /// Takes in the records that have come; of those before, the last one is kept.
    fn hear(&mut self) {
        self.claims = self.claims.pop().into_iter().collect();
        let heard = self.guest.heard();
        self.claims.extend(heard.iter().map(Claim::of));
    }

    /// The bound of the record that is nearest by `distance`.
    fn claimed(&self, distance: impl Fn(&Claim) -> Nanos) -> Option<Nanos> {
        let nearest = self.claims.iter().min_by_key(|claim| distance(claim));
        nearest.map(|claim| claim.bound)
    }

    /// What PID 1 says that it used: the mean over the piece's records.
    fn own_account(&self) -> Option<Cost> {
        let last = self.claims.last()?;
        let count = u64::try_from(self.claims.len()).ok()?;
        let sum: u64 = self.claims.iter().map(|claim| claim.cost.cpu_ppm).sum();
        Some(Cost {
            cpu_ppm: sum / count,
            ..last.cost
        })
    }
}

/// The tightest of some exchanges: when the guest answered, by its own clock, and how far that was
/// from the host's.
fn exchange(session: &mut Session<'_>) -> Result<(Utc, Reading), SampleError> {
    let mut best = session.exchange()?;
    for _ in 1..BURST {
        let next = session.exchange()?;
        if next.error().bound_ns < best.error().bound_ns {
            best = next;
        }
    }
    let error = best.error();
    let reading = Reading {
        offset: -error.error_ns,
        off: error.bound_ns,
        bound: None,
    };
    Ok((best.realtime, reading))
}

fn share_ppm(used: Nanos, of: Nanos) -> u64 {
    let ppm = i128::from(used.0) * 1_000_000 / i128::from(of.0.max(1));
    u64::try_from(ppm).unwrap_or(0)
}
