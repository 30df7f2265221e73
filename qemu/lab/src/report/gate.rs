//! Whether a run passes: every sample that was asked for was taken, the clock was right by the host's
//! before each fault and after each recovery, and nothing is beyond its limit.

mod errors;

use noonmark_contract::units::Nanos;

use super::error::Finding;
use super::limits::Bounds;
use super::{FaultReport, P99_SAMPLES, Report, Sample, Summary};
use errors::{When, errors};

/// Whether a run passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every sample that was asked for was taken and is within its limits.
    Passed {
        /// All samples, the first after boot included.
        samples: u32,
    },
    /// Not so.
    Failed {
        /// Why, one clause for each reason.
        reasons: Vec<String>,
    },
}

/// Something that keeps a run from passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The fault's name; none where it is about the run as a whole.
    pub fault: Option<String>,
    /// What is wrong, in words that name the fault.
    pub reason: String,
    /// The commands that do the failing samples again, at most [`REPLAYS_MAX`]; none where the
    /// failure is not of single samples.
    pub replays: Vec<String>,
}

/// So many of a fault's failing samples are told with their commands; the report has them all.
pub const REPLAYS_MAX: usize = 3;

impl Report {
    /// Whether the run passes.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let failures = self.failures();
        if failures.is_empty() {
            Verdict::Passed {
                samples: self.sample_count(),
            }
        } else {
            Verdict::Failed {
                reasons: failures.into_iter().map(|f| f.reason).collect(),
            }
        }
    }

    /// Everything that keeps the run from passing, in the report's order.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        let mut failures: Vec<Failure> = self.unsynced().into_iter().collect();
        if let Some(first) = &self.first {
            // Cold code is held to the limits of single samples, not to those of the figures.
            let family = self.faults.iter().find(|f| f.fault == first.fault);
            let family = family.map(|f| f.family).unwrap_or_default();
            let bounds = self
                .limits
                .bounds(&first.fault, family, self.max_recovery_ns);
            let name = format!("{} (first after boot)", first.fault);
            let samples = std::slice::from_ref(&first.sample);
            failures.extend(single(&first.fault, &name, samples, &bounds));
        }
        for fault in &self.faults {
            let bounds = self
                .limits
                .bounds(&fault.fault, fault.family, self.max_recovery_ns);
            failures.extend(single(&fault.fault, &fault.fault, &fault.samples, &bounds));
            failures.extend(figures(fault, &bounds));
        }
        failures.extend(self.series.iter().filter_map(|series| {
            Some(Failure {
                fault: None,
                reason: format!("{}: {}", series.name, series.failure()?),
                replays: Vec::new(),
            })
        }));
        for gap in &self.not_run {
            failures.push(Failure {
                fault: Some(gap.fault.clone()),
                reason: format!("{}: not run, or not to the end: {}", gap.fault, gap.reason),
                replays: Vec::new(),
            });
        }
        if self.sample_count() == 0 && failures.is_empty() {
            failures.push(Failure {
                fault: None,
                reason: "no sample was taken".to_owned(),
                replays: Vec::new(),
            });
        }
        failures
    }

    /// What is wrong with the clock that was said to be in order before the first fault.
    fn unsynced(&self) -> Option<Failure> {
        let error = self.synced?;
        let limit = self.limits.default.error_ns.or(self.error_limit_ns)?;
        let reason = match error.judge(limit) {
            Finding::Within => return None,
            Finding::Beyond => {
                format!(
                    "before the first fault the clock was off from the host's by {error}, beyond {limit}"
                )
            }
            Finding::Unclear => format!(
                "before the first fault the clock's error was not measured well enough to be held to \
                 {limit}: {error}"
            ),
        };
        Some(Failure {
            fault: None,
            reason,
            replays: Vec::new(),
        })
    }

    /// How many samples recovered, and how many were asked for; the first after boot is one of them.
    #[must_use]
    pub fn recovered(&self) -> (u32, u32) {
        let mut recovered = 0;
        let mut of = 0;
        for fault in &self.faults {
            recovered += fault.summary.recovered;
            of += fault.requested.max(fault.summary.count);
        }
        if let Some(first) = &self.first {
            recovered += u32::from(first.sample.recovered_ns.is_some());
            of += 1;
        }
        (recovered, of)
    }

    /// The loosest limit that the clock's error was held to around any fault; none where it was
    /// measured of none.
    #[must_use]
    pub fn held_to(&self) -> Option<Nanos> {
        let limit = |fault: &FaultReport| {
            let asked = self
                .limits
                .bounds(&fault.fault, fault.family, Nanos::MAX)
                .error;
            let own = fault.samples.iter().filter_map(|s| s.error_limit_ns).max();
            asked.or(own)
        };
        self.faults.iter().filter_map(limit).max()
    }

    fn sample_count(&self) -> u32 {
        let taken: usize = self.faults.iter().map(|fault| fault.samples.len()).sum();
        u32::try_from(taken + usize::from(self.first.is_some())).unwrap_or(u32::MAX)
    }
}

/// What is wrong with single samples.
fn single(fault: &str, name: &str, samples: &[Sample], bounds: &Bounds) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut judge = |what: String, failing: Vec<&Sample>, allowed: usize| {
        if failing.len() > allowed {
            let of = samples.len();
            failures.push(Failure {
                fault: Some(fault.to_owned()),
                reason: format!("{name}: {} of {of} {what}", failing.len()),
                replays: replays(&failing),
            });
        }
    };
    let all = |wrong: &dyn Fn(&Sample) -> bool| samples.iter().filter(|s| wrong(s)).collect();
    let lost = all(&|s| s.recovered_ns.is_none());
    judge(
        "did not recover".to_owned(),
        lost,
        bounds.unrecovered as usize,
    );
    let limit = bounds.max_recovery;
    let late: Vec<&Sample> = all(&|s| s.recovered_ns.is_some_and(|took| took > limit));
    let waits = waits(&late);
    judge(format!("took longer than {limit}{waits}"), late, 0);
    for when in [When::Before, When::After] {
        for (finding, failing) in errors(samples, when, bounds.error) {
            judge(finding, failing, 0);
        }
    }
    if let Some(limit) = bounds.residual {
        let off = all(&|s| s.recovered_ns.is_some() && s.residual_ns.abs() > limit);
        judge(format!("were left with an error beyond {limit}"), off, 0);
    }
    for sample in samples {
        for violation in &sample.violations {
            failures.push(Failure {
                fault: Some(fault.to_owned()),
                reason: format!("{name}, sample {}: {violation}", sample.number),
                replays: replays(&[sample]),
            });
        }
    }
    failures
}

/// What the host had to do with the slowest of them, in a clause; nothing where it had little.
fn waits(late: &[&Sample]) -> String {
    let slowest = late.iter().max_by_key(|sample| sample.recovered_ns);
    let told = slowest.and_then(|sample| {
        let (took, waited) = (sample.recovered_ns?, sample.waited_ns?);
        (waited.0 >= took.0 / 4).then(|| {
            format!(" (the slowest {took}, while QEMU's threads waited {waited} for a processor)")
        })
    });
    told.unwrap_or_default()
}

/// What is wrong with the figures over a fault's samples. Of too few for a 99th percentile the longest
/// is held to its limit.
fn figures(fault: &FaultReport, bounds: &Bounds) -> Vec<Failure> {
    let Summary {
        count,
        p50_ns,
        p99_ns,
        max_ns,
        ..
    } = fault.summary;
    if count == 0 {
        return Vec::new();
    }
    let (p99, p99_ns) = if count < P99_SAMPLES {
        ("max (of too few samples for a p99)", max_ns)
    } else {
        ("p99", p99_ns)
    };
    let failed = |(what, figure, limit): (&str, Option<Nanos>, Option<Nanos>)| {
        let limit = limit?;
        let figure = match figure {
            Some(figure) if figure <= limit => return None,
            Some(figure) => figure.to_string(),
            None => "for ever".to_owned(),
        };
        Some(Failure {
            fault: Some(fault.fault.clone()),
            reason: format!("{}: {what} is {figure}, beyond {limit}", fault.fault),
            replays: Vec::new(),
        })
    };
    [("p50", p50_ns, bounds.p50), (p99, p99_ns, bounds.p99)]
        .into_iter()
        .filter_map(failed)
        .collect()
}

/// The commands of the worst of them.
fn replays(failing: &[&Sample]) -> Vec<String> {
    let mut worst_first = failing.to_vec();
    worst_first.sort_by_key(|sample| std::cmp::Reverse(sample.recovered_ns.unwrap_or(Nanos::MAX)));
    worst_first
        .into_iter()
        .filter(|sample| !sample.replay.is_empty())
        .map(|sample| sample.replay.clone())
        .take(REPLAYS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::fixture::{self, exchanged as error, sample};
    use crate::report::limits::Limits;
    use crate::report::{FirstSample, NotRun};

    use super::*;

    fn report(times_us: &[Option<i64>]) -> Report {
        let mut report = fixture::report();
        report.first = None;
        report.faults[0].samples = times_us.iter().copied().map(sample).collect();
        report.faults[0].summary = Summary::of(&report.faults[0].samples);
        report
    }

    fn reasons(report: &Report) -> Vec<String> {
        report.failures().into_iter().map(|f| f.reason).collect()
    }

    #[test]
    fn a_run_passes_only_if_all_recovered_in_time_and_all_ran() {
        let good = report(&[Some(600), Some(50_000)]);
        assert_eq!(good.verdict(), Verdict::Passed { samples: 2 });
        let failed = |report: &Report| matches!(report.verdict(), Verdict::Failed { .. });
        assert!(failed(&report(&[Some(600), Some(50_001)])));
        assert!(failed(&report(&[Some(600), None])));
        assert!(failed(&report(&[])));

        let mut cold = good.clone();
        cold.first = Some(FirstSample {
            fault: "step:-1h".into(),
            sample: sample(None),
        });
        assert!(failed(&cold));
        let mut gap = good.clone();
        gap.not_run.push(NotRun {
            fault: "step:+1h".into(),
            reason: "the guest went down".into(),
        });
        assert!(failed(&gap));
        let mut wrong = good;
        wrong.faults[0].samples[0].violations = vec!["a step to a wrong time".into()];
        assert!(failed(&wrong));
    }

    #[test]
    fn limits_hold_for_figures_and_for_single_samples() {
        let mut report = report(&[Some(600), Some(700), Some(900)]);
        let limits = "[family.step]\np50 = \"650us\"\np99 = \"1ms\"\nresidual = \"50ns\"\n";
        report.limits = Limits::parse(limits).unwrap();
        assert_eq!(
            reasons(&report),
            [
                "step:-1h: 3 of 3 were left with an error beyond 50 ns",
                "step:-1h: p50 is 700.000 us, beyond 650.000 us"
            ]
        );
        report.limits = Limits::parse("[default]\np99 = \"800us\"\n").unwrap();
        let why = "step:-1h: max (of too few samples for a p99) is 900.000 us, beyond 800.000 us";
        assert_eq!(reasons(&report), [why]);
        report.limits = Limits::parse("[default]\nmax_recovery = \"800us\"\n").unwrap();
        assert_eq!(
            reasons(&report),
            ["step:-1h: 1 of 3 took longer than 800.000 us"]
        );
    }

    #[test]
    fn a_clock_that_was_wrong_before_the_fault_fails_however_well_it_is_put_back() {
        let mut report = report(&[Some(600), Some(700), Some(800)]);
        for sample in &mut report.faults[0].samples {
            sample.before = Some(error(30_000_000, 10));
            sample.after = Some(error(30_000_009, 10));
        }
        report.faults[0].samples[1].after = Some(error(-9, 10));
        assert_eq!(
            reasons(&report),
            [
                "step:-1h: 3 of 3 had a clock off from the host's by more than 1.000 us before the \
                 fault (the worst 30.000 ms ± 10 ns)",
                "step:-1h: 2 of 3 had a clock off from the host's by more than 1.000 us after the \
                 recovery (the worst 30.000 ms ± 10 ns)"
            ]
        );
    }

    #[test]
    fn an_error_that_nobody_measured_well_enough_is_no_pass() {
        let mut report = report(&[Some(600), Some(700), None]);
        for sample in &mut report.faults[0].samples {
            sample.before = Some(error(2, 10));
            sample.after = None;
        }
        report.faults[0].samples[0].after = Some(error(0, 501));
        assert_eq!(
            reasons(&report)[1..],
            [
                "step:-1h: 2 of 3 had an error after the recovery that was not measured well enough to \
                 be held to 1.000 us (the largest bound is 501 ns)"
            ]
        );
        report.limits = Limits::parse("[family.step]\nerror = \"2us\"\nunrecovered = 1\n").unwrap();
        report.faults[0].samples[1].after = Some(error(-1_900, 100));
        assert_eq!(reasons(&report), [""; 0]);
    }

    #[test]
    fn synced_is_what_the_host_s_clock_says() {
        let mut report = report(&[Some(600)]);
        report.error_limit_ns = Some(Nanos::from_millis(1));
        report.synced = Some(error(30_000_000, 200_000));
        let reason = "before the first fault the clock was off from the host's by 30.000 ms ± 200.000 us, \
                      beyond 1.000 ms";
        assert_eq!(reasons(&report), [reason]);
        report.synced = Some(error(100_000, 500_001));
        assert!(reasons(&report)[0].contains("not measured well enough"));
        report.synced = Some(error(100_000, 500_000));
        assert_eq!(report.verdict(), Verdict::Passed { samples: 1 });
    }

    #[test]
    fn a_series_with_a_limit_is_held_to_it() {
        let mut report = report(&[Some(600)]);
        report.series = vec![fixture::series("host with chronyd", &[2, 5_000])];
        assert_eq!(reasons(&report), [""; 0]);
        report.series[0].limit_ns = Some(Nanos::from_micros(1));
        let reason = "host with chronyd: 1 of 2 readings are beyond 1.000 us, the largest 5.000 us";
        assert_eq!(reasons(&report), [reason]);
    }

    #[test]
    fn a_slow_recovery_on_a_host_that_had_no_time_for_the_guest_is_told_as_that() {
        let mut report = report(&[Some(60_000), Some(107_000)]);
        report.faults[0].samples[0].waited_ns = Some(Nanos::from_millis(90));
        assert_eq!(
            reasons(&report),
            ["step:-1h: 2 of 2 took longer than 50.000 ms"]
        );
        report.faults[0].samples[1].waited_ns = Some(Nanos::from_millis(101));
        assert_eq!(
            reasons(&report),
            [
                "step:-1h: 2 of 2 took longer than 50.000 ms (the slowest 107.000 ms, while QEMU's \
                 threads waited 101.000 ms for a processor)"
            ]
        );
    }

    #[test]
    fn so_many_may_stay_wrong_as_the_limits_allow() {
        let mut report = report(&[Some(600), None]);
        report.limits = Limits::parse("[fault.\"step:-1h\"]\nunrecovered = 1\n").unwrap();
        assert_eq!(reasons(&report), Vec::<String>::new());
    }

    #[test]
    fn the_worst_failing_samples_are_told_with_their_commands() {
        let mut report = report(&[Some(60_000), Some(80_000), Some(70_000), None, Some(600)]);
        for (index, sample) in report.faults[0].samples.iter_mut().enumerate() {
            sample.replay = format!("replay {index}");
        }
        let failures = report.failures();
        assert_eq!(failures[0].replays, ["replay 3"]);
        assert_eq!(failures[1].replays, ["replay 1", "replay 2", "replay 0"]);
    }
}
