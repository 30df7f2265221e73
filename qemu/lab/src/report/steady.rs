//! The steady state: how well a clock is kept that nobody disturbs, and what that costs.

use noonmark_contract::testport::{ProcessCost, Steady};
use noonmark_contract::units::Nanos;
use serde::{Deserialize, Serialize};

use crate::stats::median;

/// A clock's steady state over some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// What it was compared with.
    #[serde(default)]
    pub truth: Truth,
    /// Reference minus the guest's clock, every reading in its order.
    pub offsets_ns: Vec<Nanos>,
    /// How far each reading itself can be off; empty where that is nothing beside what is read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub off_ns: Vec<Nanos>,
    /// The bound of the clock's error that the keeper claimed at each reading, in the status record
    /// nearest to it; null where there is none, empty where the keeper claims none at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds_ns: Vec<Option<Nanos>>,
}

/// What a clock is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// ptp_kvm's clock, read in the guest.
    #[default]
    PtpKvm,
    /// The host's clock, by exchanges over the test port.
    Host,
}

/// What a program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Share of one vCPU, in millionths.
    pub cpu_ppm: u64,
    /// Resident set in KiB.
    pub rss_kib: u64,
}

/// How a claimed bound fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundKept {
    /// Readings that were held against a bound.
    pub held: usize,
    /// Those of them in which the error was beyond it, by more than the reading can be off.
    pub beyond: usize,
}

/// The program that keeps a guest's clock, as the guest lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeptBy<'a> {
    /// PID 1.
    Init,
    /// The program of this name (`/proc/PID/comm`).
    Program(&'a str),
}

impl KeptBy<'_> {
    pub(crate) fn is(self, process: &ProcessCost) -> bool {
        match self {
            Self::Init => process.pid == 1,
            Self::Program(name) => process.name == name,
        }
    }
}

/// One comparison with the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Truth minus clock.
    pub(crate) offset: Nanos,
    /// How far that can be off.
    pub(crate) off: Nanos,
    /// What the keeper claimed.
    pub(crate) bound: Option<Nanos>,
}

impl Reading {
    /// How far the clock was off for certain.
    pub(crate) fn provable(&self) -> Nanos {
        (self.offset.abs() - self.off).max(Nanos::ZERO)
    }
}

/// What was seen in a part of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) readings: Vec<Reading>,
    pub(crate) failed: u32,
    pub(crate) span: Nanos,
    pub(crate) cost: Option<Cost>,
}

impl SteadyState {
    /// Takes in what was seen next.
    pub(crate) fn add(&mut self, piece: Piece) {
        self.keeper = if self.offsets_ns.is_empty() {
            piece.cost
        } else {
            self.keeper.zip(piece.cost).map(|(before, now)| Cost {
                cpu_ppm: mean((before.cpu_ppm, self.span_ns), (now.cpu_ppm, piece.span)),
                ..now
            })
        };
        self.span_ns += piece.span;
        self.failed = self.failed.saturating_add(piece.failed);
        for reading in &piece.readings {
            self.offsets_ns.push(reading.offset);
            self.off_ns.push(reading.off);
            self.bounds_ns.push(reading.bound);
        }
        self.rms_ns = rms(&self.offsets_ns);
        self.max_ns = largest(&self.offsets_ns);
    }

    /// Leaves out what says nothing.
    pub(crate) fn finish(mut self) -> Self {
        if self.off_ns.iter().all(|off| *off == Nanos::ZERO) {
            self.off_ns.clear();
        }
        if self.bounds_ns.iter().all(Option::is_none) {
            self.bounds_ns.clear();
        }
        self
    }

    /// Whether the bound held that the keeper claimed; none where it claims none.
    #[must_use]
    pub fn bound_kept(&self) -> Option<BoundKept> {
        if self.bounds_ns.is_empty() {
            return None;
        }
        let off = self.off_ns.iter().copied();
        let off = off.chain(std::iter::repeat(Nanos::ZERO));
        let held: Vec<bool> = self
            .offsets_ns
            .iter()
            .zip(off)
            .zip(&self.bounds_ns)
            .filter_map(|((offset, off), bound)| Some(offset.abs() - off > (*bound)?))
            .collect();
        Some(BoundKept {
            held: held.len(),
            beyond: held.iter().filter(|beyond| **beyond).count(),
        })
    }

    /// The median bound that the keeper claimed.
    #[must_use]
    pub fn usual_bound(&self) -> Option<Nanos> {
        median(self.bounds_ns.iter().flatten().copied())
    }

    /// How far a reading can be off, as a rule.
    #[must_use]
    pub fn usual_off(&self) -> Nanos {
        median(self.off_ns.iter().copied()).unwrap_or_default()
    }
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

fn rms(offsets: &[Nanos]) -> f64 {
    if offsets.is_empty() {
        return 0.0;
    }
    let squares: f64 = offsets.iter().map(|offset| (offset.0 as f64).powi(2)).sum();
    (squares / offsets.len() as f64).sqrt()
}

/// The mean of two figures, each over its span.
fn mean(before: (u64, Nanos), now: (u64, Nanos)) -> u64 {
    let weighed = |(figure, span): (u64, Nanos)| u128::from(figure) * u128::from(weight(span));
    let total = u128::from(weight(before.1)) + u128::from(weight(now.1));
    u64::try_from((weighed(before) + weighed(now)) / total.max(1)).unwrap_or(u64::MAX)
}

fn weight(span: Nanos) -> u64 {
    u64::try_from(span.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offsets: &[i64], cpu_ppm: u64, seconds: i64) -> Piece {
        let reading = |&offset: &i64| Reading {
            offset: Nanos(offset),
            off: Nanos::ZERO,
            bound: None,
        };
        Piece {
            readings: offsets.iter().map(reading).collect(),
            failed: 1,
            span: Nanos::from_secs(seconds),
            cost: Some(Cost {
                cpu_ppm,
                rss_kib: 700,
            }),
        }
    }

    #[test]
    fn figures_are_those_of_all_pieces_together() {
        let mut state = SteadyState::default();
        state.add(piece(&[3, -4], 100, 10));
        state.add(piece(&[0, 0], 400, 20));
        assert_eq!((state.rms_ns, state.max_ns), (2.5, Nanos(4)));
        assert_eq!((state.failed, state.span_ns), (2, Nanos::from_secs(30)));
        assert_eq!(state.keeper.map(|cost| cost.cpu_ppm), Some(300));
        let lost = Piece {
            cost: None,
            ..piece(&[1], 0, 10)
        };
        state.add(lost);
        state.add(piece(&[1], 100, 10));
        assert_eq!(state.keeper, None, "it was not there all the time");
    }

    #[test]
    fn a_bound_is_broken_only_where_the_reading_proves_it() {
        let reading = |offset, off, bound: Option<i64>| Reading {
            offset: Nanos(offset),
            off: Nanos(off),
            bound: bound.map(Nanos),
        };
        let mut state = SteadyState::default();
        state.add(Piece {
            readings: vec![
                reading(-90, 0, Some(100)),
                reading(-150, 40, Some(100)),
                reading(150, 60, Some(100)),
                reading(900, 0, None),
            ],
            ..piece(&[], 0, 10)
        });
        let kept = state.finish().bound_kept();
        assert_eq!(kept, Some(BoundKept { held: 3, beyond: 1 }));
        let mut silent = SteadyState::default();
        silent.add(piece(&[1, 2], 0, 1));
        let silent = silent.finish();
        assert_eq!(silent.bound_kept(), None);
        assert!(silent.off_ns.is_empty() && silent.bounds_ns.is_empty());
    }

    #[test]
    fn the_keeper_is_pid_1_or_the_program_of_its_name() {
        let process = |pid, name: &str| ProcessCost {
            pid,
            name: name.into(),
            cpu_ns: Nanos::ZERO,
            rss_kib: 0,
        };
        assert!(KeptBy::Init.is(&process(1, "init")));
        assert!(KeptBy::Program("chronyd").is(&process(70, "chronyd")));
        assert!(!KeptBy::Program("phc2sys").is(&process(1, "init")));
    }

    #[test]
    fn a_clock_is_right_from_the_first_reading_on_after_which_none_is_wrong() {
        let mut seen = Steady {
            offsets_ns: [3, -4, 0, 0].map(Nanos).into(),
            failed: 0,
            began_at_ns: Nanos::from_secs(20),
            span_ns: Nanos::from_secs(60),
            processes: vec![],
            first_read_ns: Nanos::ZERO,
            first_read_at_ns: Nanos::ZERO,
        };
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
