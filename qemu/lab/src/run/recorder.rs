//! The report of an experiment under way: what is known before the first sample, each sample as it
//! is taken, and what is missing after the last.

use noonmark_qemu::accel::Decision;

use crate::fault::{Fault, Plan};
use crate::report::evidence::Evidence;
use crate::report::host::Host;
use crate::report::limits::Limits;
use crate::report::series::ErrorSeries;
use crate::report::{Environment, FaultReport, NotRun, Report, Sample, Summary, VERSION};

use super::outcome::{ExperimentError, Outcome, Progress};

/// Writes down what is measured, and tells of it while it runs.
pub(crate) struct Recorder<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) report: Report,
    pub(crate) progress: &'a mut dyn FnMut(Progress<'_>),
}

impl<'a> Recorder<'a> {
    /// With nothing measured yet.
    pub(crate) fn new(
        plan: &'a Plan,
        accelerator: &Decision,
        progress: &'a mut dyn FnMut(Progress<'_>),
    ) -> Self {
        let report = Report {
            v: VERSION,
            environment: Environment {
                accelerator: accelerator.accelerator.to_string(),
                accelerator_reason: accelerator.reason.clone(),
                ..Environment::default()
            },
            tolerance_ns: plan.tolerance,
            boot: None,
            faults: Vec::new(),
            not_run: Vec::new(),
            first: None,
            max_recovery_ns: plan.max_recovery,
            seed: plan.seed,
            noonmark: env!("CARGO_PKG_VERSION").to_owned(),
            sources: Vec::new(),
            init: None,
            host: Host::here(),
            boot_exits: None,
            evidence: Evidence::default(),
            limits: Limits::default(),
            synced: None,
            error_limit_ns: None,
            series: Vec::new(),
        };
        Self {
            plan,
            report,
            progress,
        }
    }

    /// The samples that follow are of this fault.
    pub(crate) fn begin(&mut self, fault: Fault) {
        self.report.faults.push(FaultReport {
            fault: fault.to_string(),
            family: fault.family(),
            requested: self.plan.wanted(fault),
            samples: Vec::new(),
            summary: Summary::default(),
        });
    }

    /// Adds a sample of the fault that was begun last.
    pub(crate) fn add(&mut self, fault: Fault, mut sample: Sample) {
        self.tell(fault, &sample);
        if let Some(series) = sample.series.take() {
            self.report.series.push(ErrorSeries {
                number: sample.number,
                detail: sample.detail.clone(),
                ..*series
            });
        }
        if let Some(entry) = self.report.faults.last_mut() {
            entry.samples.push(sample);
            entry.summary = Summary::of(&entry.samples);
        }
    }

    /// Tells of a sample.
    pub(crate) fn tell(&mut self, fault: Fault, sample: &Sample) {
        (self.progress)(Progress::Sampled {
            fault,
            number: sample.number,
            of: self.plan.wanted(fault),
            sample,
        });
    }

    /// Notes that a fault is not done, or not to the end, and why.
    pub(crate) fn skip(&mut self, fault: Fault, reason: String) {
        (self.progress)(Progress::Skipped {
            fault,
            reason: &reason,
        });
        self.report.not_run.push(NotRun {
            fault: fault.to_string(),
            reason,
        });
    }

    /// The outcome, with what an error kept from being done listed in the report.
    pub(crate) fn finish(mut self, error: Option<ExperimentError>) -> Outcome {
        if let Some(error) = &error {
            list_missing(&mut self.report, self.plan, error);
        }
        Outcome {
            report: self.report,
            error,
        }
    }
}

/// Lists what an error kept from being done.
fn list_missing(report: &mut Report, plan: &Plan, error: &ExperimentError) {
    let text = error.to_string();
    let why = text.lines().next().unwrap_or_default();
    for fault in &plan.faults {
        let name = fault.to_string();
        if report.not_run.iter().any(|gap| gap.fault == name) {
            continue;
        }
        let done = report.faults.iter().find(|done| done.fault == name);
        let wanted = plan.wanted(*fault);
        let reason = match done.map_or(0, |done| done.summary.count) {
            count if count == wanted => continue,
            0 => why.to_owned(),
            count => format!("ended after {count} of {wanted} samples: {why}"),
        };
        report.not_run.push(NotRun {
            fault: name,
            reason,
        });
    }
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Nanos;
    use noonmark_qemu::accel::Accelerator;

    use super::*;

    #[test]
    fn an_end_in_the_middle_leaves_each_fault_measured_or_listed() {
        let plan = Plan::new(vec![
            Fault::Step(Nanos::from_secs(1)),
            Fault::Step(Nanos::from_secs(2)),
            Fault::Step(Nanos::from_secs(3)),
        ]);
        let decision = Decision {
            accelerator: Accelerator::Tcg,
            reason: "it was asked for".into(),
        };
        let mut progress = |_: Progress<'_>| {};
        let mut recorder = Recorder::new(&plan, &decision, &mut progress);
        for (&fault, count) in plan.faults.iter().zip([10, 4]) {
            recorder.begin(fault);
            for _ in 0..count {
                recorder.add(fault, Sample::default());
            }
        }
        let error = ExperimentError::WrongAnswer {
            expected: 1,
            got: 2,
        };
        let report = recorder.finish(Some(error)).report;
        let listed: Vec<&str> = report.not_run.iter().map(|gap| &*gap.fault).collect();
        assert_eq!(listed, ["step:+2s", "step:+3s"]);
        assert!(
            report.not_run[0]
                .reason
                .starts_with("ended after 4 of 10 samples: ")
        );
        assert!(report.not_run[1].reason.starts_with("the fault program"));
    }
}
