//! The report around the samples: what is known before the first, and what is missing after the
//! last.

use noonmark_qemu::accel::Decision;

use super::evidence::Evidence;
use super::host::Host;
use super::limits::Limits;
use super::plan::Plan;
use super::report::{Environment, NotRun, Report, VERSION};
use super::run::ExperimentError;

pub(super) fn blank_report(qemu: &str, vcpus: u32, plan: &Plan, accelerator: &Decision) -> Report {
    Report {
        v: VERSION,
        environment: Environment {
            qemu: qemu.to_owned(),
            accelerator: accelerator.accelerator.to_string(),
            accelerator_reason: accelerator.reason.clone(),
            vcpus,
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
        evidence: Evidence::default(),
        limits: Limits::default(),
    }
}

/// Lists what an error kept from being done.
pub(super) fn list_missing(report: &mut Report, plan: &Plan, error: &ExperimentError) {
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

    use super::super::fault::Fault;
    use super::super::report::{FaultReport, Summary};
    use super::*;

    fn report(counts: &[u32], plan: &Plan) -> Report {
        let decision = Decision {
            accelerator: Accelerator::Tcg,
            reason: "it was asked for".into(),
        };
        let mut report = blank_report("10.0.2", 2, plan, &decision);
        for (fault, &count) in plan.faults.iter().zip(counts) {
            report.faults.push(FaultReport {
                fault: fault.to_string(),
                family: fault.family(),
                requested: plan.count,
                samples: Vec::new(),
                summary: Summary {
                    count,
                    ..Summary::default()
                },
            });
        }
        report
    }

    #[test]
    fn an_end_in_the_middle_leaves_each_fault_measured_or_listed() {
        let plan = Plan::new(vec![
            Fault::Step(Nanos::from_secs(1)),
            Fault::Step(Nanos::from_secs(2)),
            Fault::Step(Nanos::from_secs(3)),
        ]);
        let mut report = report(&[10, 4], &plan);
        let error = ExperimentError::WrongAnswer {
            expected: 1,
            got: 2,
        };
        list_missing(&mut report, &plan, &error);
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
