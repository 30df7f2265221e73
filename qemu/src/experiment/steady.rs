//! The steady state: how well a clock is kept that nobody disturbs, and what that costs.

use std::time::{Duration, Instant};

use noonmark_sync::testport::{Fault, Outcome, ProcessCost, READINGS_MAX, Request, Steady, Watch};
use noonmark_sync::units::Nanos;
use serde::{Deserialize, Serialize};

use super::ExperimentError;
use crate::vm::machine::Machine;

/// Time between two readings where the span allows it.
const EVERY: Duration = Duration::from_millis(100);

/// What the observer was asked and could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotWatched(pub String);

/// A clock's steady state over some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SteadyState {
    /// How long it was watched.
    pub span_ns: Nanos,
    /// How long the guest had been up by then, at least.
    pub warm_up_ns: Nanos,
    /// Readings that failed.
    pub failed: u32,
    /// Root mean square of the offsets.
    pub rms_ns: f64,
    /// The largest offset, by magnitude.
    pub max_ns: Nanos,
    /// What the program that keeps the clock used; none where it was not found running all the
    /// time.
    pub keeper: Option<Cost>,
    /// Reference minus the guest's clock, every reading in its order.
    pub offsets_ns: Vec<Nanos>,
}

/// What a program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Share of one vCPU, in millionths.
    pub cpu_ppm: u64,
    /// Resident set in KiB.
    pub rss_kib: u64,
}

/// The program that keeps a guest's clock, as the guest lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBy<'a> {
    /// PID 1.
    Init,
    /// The program of this name (`/proc/PID/comm`).
    Program(&'a str),
}

impl KeptBy<'_> {
    fn is(self, process: &ProcessCost) -> bool {
        match self {
            Self::Init => process.pid == 1,
            Self::Program(name) => process.name == name,
        }
    }
}

impl SteadyState {
    /// The figures of what was seen.
    #[must_use]
    pub fn of(seen: Steady, warm_up: Duration, kept_by: KeptBy<'_>) -> Self {
        let keeper = seen.processes.iter().find(|process| kept_by.is(process));
        Self {
            span_ns: seen.span_ns,
            warm_up_ns: nanos(warm_up),
            failed: seen.failed,
            rms_ns: rms(&seen.offsets_ns),
            max_ns: largest(&seen.offsets_ns),
            keeper: keeper.map(|process| Cost {
                cpu_ppm: share_ppm(process.cpu_ns, seen.span_ns),
                rss_kib: process.rss_kib,
            }),
            offsets_ns: seen.offsets_ns,
        }
    }
}

/// Has the fault program compare the clock with the host's for `span`.
///
/// # Errors
/// Where the machine dies or answers something else; the inner error is the fault program's own
/// refusal.
pub fn watch(
    machine: &mut Machine,
    id: u64,
    span: Duration,
) -> Result<Result<Steady, NotWatched>, ExperimentError> {
    let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    machine.send_test(&Request {
        v: 1,
        id,
        fault: Fault::Watch(Watch {
            span_ms,
            every_ms: every_ms(span_ms),
        }),
        tolerance_ns: Nanos::ZERO,
        settle_ns: Nanos::ZERO,
        deadline_ms: 0,
    })?;
    let deadline = Instant::now() + span + machine.patience().answer();
    let answer = machine.test_answer("what the clock's observer has seen", deadline)?;
    if answer.id != id {
        return Err(ExperimentError::WrongAnswer {
            expected: id,
            got: answer.id,
        });
    }
    Ok(match answer.outcome {
        Outcome::Steady(seen) => Ok(seen),
        Outcome::Error(why) => Err(NotWatched(why)),
        _ => Err(NotWatched(
            "the fault program started over in the middle of it".to_owned(),
        )),
    })
}

/// The offset that is largest by magnitude; nothing where there is none.
#[must_use]
pub fn largest(offsets: &[Nanos]) -> Nanos {
    let magnitudes = offsets.iter().map(|offset| offset.abs());
    magnitudes.max().unwrap_or_default()
}

/// From when on (`CLOCK_BOOTTIME`) every reading was within `limit`; none where the last was not.
#[must_use]
pub fn right_since(seen: &Steady, limit: Nanos) -> Option<Nanos> {
    let count = i64::try_from(seen.offsets_ns.len()).ok()?;
    let wrong = |offset: &Nanos| offset.abs() > limit;
    let first = seen
        .offsets_ns
        .iter()
        .rposition(wrong)
        .map_or(0, |at| at + 1);
    let first = i64::try_from(first).ok().filter(|first| *first < count)?;
    Some(seen.began_at_ns + Nanos(seen.span_ns.0 / count * first))
}

/// Ten readings a second, fewer where the span is too long for that, more where it is short.
fn every_ms(span_ms: u64) -> u64 {
    let usual = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
    usual
        .max(span_ms.div_ceil(READINGS_MAX))
        .min(span_ms / 10)
        .max(1)
}

fn rms(offsets: &[Nanos]) -> f64 {
    if offsets.is_empty() {
        return 0.0;
    }
    let squares: f64 = offsets.iter().map(|offset| (offset.0 as f64).powi(2)).sum();
    (squares / offsets.len() as f64).sqrt()
}

fn share_ppm(used: Nanos, of: Nanos) -> u64 {
    let ppm = i128::from(used.0) * 1_000_000 / i128::from(of.0.max(1));
    u64::try_from(ppm).unwrap_or(0)
}

fn nanos(span: Duration) -> Nanos {
    Nanos(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Steady {
        let process = |pid, name: &str, cpu_ms| ProcessCost {
            pid,
            name: name.into(),
            cpu_ns: Nanos::from_millis(cpu_ms),
            rss_kib: 10 * u64::from(pid),
        };
        Steady {
            offsets_ns: [3, -4, 0, 0].map(Nanos).into(),
            failed: 1,
            began_at_ns: Nanos::from_secs(20),
            span_ns: Nanos::from_secs(60),
            processes: vec![process(1, "init", 60), process(70, "chronyd", 6)],
            first_read_ns: Nanos::ZERO,
            first_read_at_ns: Nanos::ZERO,
        }
    }

    #[test]
    fn figures_are_of_the_program_that_keeps_the_clock() {
        let state = |kept_by| SteadyState::of(seen(), Duration::from_secs(20), kept_by);
        let peer = state(KeptBy::Program("chronyd"));
        assert_eq!((peer.rms_ns, peer.max_ns), (2.5, Nanos(4)));
        let cost = |cpu_ppm, rss_kib| Some(Cost { cpu_ppm, rss_kib });
        assert_eq!(peer.keeper, cost(100, 700));
        assert_eq!(state(KeptBy::Init).keeper, cost(1_000, 10));
        assert_eq!(state(KeptBy::Program("phc2sys")).keeper, None);
    }

    #[test]
    fn a_span_of_any_length_asks_for_readings_that_fit_one_answer() {
        assert_eq!(every_ms(60_000), 100);
        for span_ms in [1, 9, 10, 200, 60_000, 600_000, 86_400_000] {
            let readings = span_ms / every_ms(span_ms);
            assert!((1..=READINGS_MAX).contains(&readings), "{span_ms}");
        }
    }

    #[test]
    fn a_clock_is_right_from_the_first_reading_on_after_which_none_is_wrong() {
        let mut seen = seen();
        let since = |seen: &Steady, limit| right_since(seen, Nanos(limit));
        assert_eq!(since(&seen, 4), Some(Nanos::from_secs(20)));
        assert_eq!(since(&seen, 3), Some(Nanos::from_secs(50)));
        seen.offsets_ns.push(Nanos(9));
        assert_eq!(since(&seen, 4), None);
        seen.offsets_ns.clear();
        assert_eq!(since(&seen, 4), None);
    }

    #[test]
    fn no_readings_have_no_figures() {
        assert_eq!(rms(&[]), 0.0);
        assert_eq!(largest(&[]), Nanos::ZERO);
    }
}
