//! What a reader of the clock sees of a fault: judged read by read, as data, against the
//! clock as it would be undisturbed.

use std::collections::VecDeque;

use noonmark_contract::testport::{Observation, Tracer};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks::Sandwich;

use crate::extrapolation::Extrapolation;

/// How many of the last reads the residual is taken from.
const LAST_READS: usize = 256;

/// Reads wider than this many times the tightest of the last ones say too little of the residual.
const WIDTH_FACTOR: i64 = 2;

/// Collects the reads after a fault.
#[derive(Debug)]
pub struct Observer {
    undisturbed: Extrapolation,
    /// The instant just before the system call that set the clock.
    fault_at: Raw,
    tolerance: Nanos,
    settle: Nanos,
    right_since: Option<Raw>,
    /// Since when a foreign rate has been undone; none while it isn't.
    restored_since: Option<Raw>,
    wrong_reads: u64,
    reads: u64,
    worst: Nanos,
    last: VecDeque<(Nanos, Nanos)>,
    tracer: Tracer,
}

impl Observer {
    /// Watches from `fault_at` on for the clock to stay within `tolerance` of `undisturbed` for `settle`.
    #[must_use]
    pub fn new(undisturbed: Extrapolation, fault_at: Raw, tolerance: Nanos, settle: Nanos) -> Self {
        Self {
            undisturbed,
            fault_at,
            tolerance,
            settle,
            right_since: None,
            restored_since: None,
            wrong_reads: 0,
            reads: 0,
            worst: Nanos::ZERO,
            last: VecDeque::with_capacity(LAST_READS),
            tracer: Tracer::default(),
        }
    }

    /// Takes in one read, and whether a foreign rate, if the fault was one, is undone; true once both
    /// have stayed right for long enough.
    pub fn take(&mut self, read: &Sandwich, restored: bool) -> bool {
        self.reads += 1;
        if restored {
            self.restored_since.get_or_insert(read.after);
        } else {
            self.restored_since = None;
        }
        // The reader itself was stopped in the middle: nobody can tell when the clock was read, so
        // the read proves nothing.
        if read.width() > self.tolerance {
            return false;
        }
        let error = self.undisturbed.error(read);
        self.worst = self.worst.max(error.abs());
        self.tracer.take(read.after - self.fault_at, error);
        if error.abs() > self.tolerance {
            self.wrong_reads += 1;
            self.right_since = None;
            self.last.clear();
            return false;
        }
        if self.last.len() == LAST_READS {
            self.last.pop_front();
        }
        self.last.push_back((error, read.width()));
        let right = *self.right_since.get_or_insert(read.after);
        self.restored_since
            .is_some_and(|restored| read.after - right.max(restored) >= self.settle)
    }

    /// What was seen, up to `now`; `settled` is what the last [`Observer::take`] said.
    #[must_use]
    pub fn finish(self, settled: bool, now: Raw) -> Observation {
        let since = |since: Option<Raw>| since.filter(|_| settled).map(|at| at - self.fault_at);
        let (residual, half_width) = residual(&self.last);
        Observation {
            recovered_ns: since(self.right_since.max(self.restored_since)),
            restored_ns: since(self.restored_since),
            wrong_reads: self.wrong_reads,
            reads: self.reads,
            worst_ns: self.worst,
            residual_ns: residual,
            residual_bound_ns: self.undisturbed.bound(now) + half_width,
            trace: self.tracer.finish(),
            before: None,
            after: None,
        }
    }
}

/// The median error of the tight ones among the last reads, and half the width of the widest used.
fn residual(last: &VecDeque<(Nanos, Nanos)>) -> (Nanos, Nanos) {
    let tightest = last.iter().map(|(_, width)| width.0).min().unwrap_or(0);
    let limit = tightest.saturating_mul(WIDTH_FACTOR);
    let mut errors: Vec<Nanos> = last
        .iter()
        .filter(|(_, width)| width.0 <= limit)
        .map(|(error, _)| *error)
        .collect();
    errors.sort_unstable();
    let median = errors.get(errors.len() / 2).copied().unwrap_or_default();
    (median, Nanos(limit / 2))
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Utc;

    use super::*;

    const MS: i64 = 1_000_000;

    /// A read at `raw` of a clock that is `error` ahead of RAW.
    fn read(raw: i64, error: i64) -> Sandwich {
        Sandwich {
            before: Raw(raw - 50),
            realtime: Utc(raw + error),
            after: Raw(raw + 50),
        }
    }

    fn observer() -> Observer {
        let before: Vec<_> = (0..20).map(|i| read(i * MS, 0)).collect();
        let line = Extrapolation::fit(&before).unwrap();
        Observer::new(line, Raw(20 * MS), Nanos(MS), Nanos(5 * MS))
    }

    #[test]
    fn recovery_counts_to_the_first_of_the_reads_that_stay_right() {
        let mut observer = observer();
        assert!(!observer.take(&read(20 * MS + 500, 3_600_000 * MS), true));
        assert!(!observer.take(&read(21 * MS, 0), true));
        assert!(!observer.take(&read(22 * MS, -2 * MS), true));
        assert!(!observer.take(&read(23 * MS, 70), true));
        assert!(!observer.take(&read(27 * MS, 70), true));
        assert!(observer.take(&read(28 * MS, 70), true));
        let seen = observer.finish(true, Raw(28 * MS));
        assert_eq!(seen.recovered_ns, Some(Nanos(3 * MS + 50)));
        assert_eq!(seen.wrong_reads, 2);
        assert_eq!(seen.reads, 6);
        assert_eq!(seen.worst_ns, Nanos(3_600_000 * MS));
        assert_eq!(seen.residual_ns, Nanos(70));
        assert!(seen.residual_bound_ns >= Nanos(50));
        let errors: Vec<Nanos> = seen.trace.iter().map(|point| point.error).collect();
        assert_eq!(
            errors[..3],
            [Nanos(3_600_000 * MS), Nanos(0), Nanos(-2 * MS)]
        );
    }

    #[test]
    fn a_clock_at_a_foreign_rate_has_not_recovered_however_right_it_is() {
        let mut observer = observer();
        for i in 0..4 {
            assert!(!observer.take(&read((21 + i) * MS, 70), false));
        }
        for i in 4..9 {
            assert!(!observer.take(&read((21 + i) * MS, 70), true));
        }
        assert!(observer.take(&read(30 * MS, 70), true));
        let seen = observer.finish(true, Raw(30 * MS));
        assert_eq!(seen.wrong_reads, 0);
        assert_eq!(seen.restored_ns, Some(Nanos(5 * MS + 50)));
        assert_eq!(seen.recovered_ns, seen.restored_ns);
    }

    #[test]
    fn a_clock_that_stays_wrong_has_not_recovered() {
        let mut observer = observer();
        for i in 0..10 {
            assert!(!observer.take(&read((21 + i) * MS, 2 * MS), true));
        }
        let seen = observer.finish(false, Raw(31 * MS));
        assert_eq!(seen.recovered_ns, None);
        assert_eq!(seen.wrong_reads, 10);
    }

    #[test]
    fn a_read_that_was_itself_interrupted_proves_nothing() {
        let mut observer = observer();
        let mut interrupted = read(21 * MS, 900 * MS);
        interrupted.after = Raw(24 * MS);
        assert!(!observer.take(&interrupted, true));
        assert!(!observer.take(&read(25 * MS, 0), true));
        assert!(observer.take(&read(31 * MS, 0), true));
        let seen = observer.finish(true, Raw(31 * MS));
        assert_eq!(seen.wrong_reads, 0);
        assert_eq!(seen.recovered_ns, Some(Nanos(5 * MS + 50)));
    }
}
