//! Doing an experiment on a running machine.

use std::thread;
use std::time::{Duration, Instant};

use noonmark_sync::record::{Record, Status};
use noonmark_sync::testport::{self, Request};
use noonmark_sync::units::Nanos;

use super::account::{Account, join};
use super::evidence::Evidence;
use super::fault::Fault;
use super::host::{Host, Waiting};
use super::limits::Limits;
use super::plan::Plan;
use super::report::{
    Environment, FaultReport, FirstSample, NotRun, Report, Sample, Summary, VERSION,
};
use crate::accel::Decision;
use crate::hub::Feed;
use crate::vm::error::MachineError;
use crate::vm::machine::Machine;

/// How long PID 1's records may come after the observer's answer. They are on their way by then,
/// so this only passes where there are none.
const RECORDS_DEADLINE: Duration = Duration::from_secs(2);

/// Status records between the first sync and the faults, so that PID 1's idle cost is measured
/// over a whole interval.
const IDLE_RECORDS: u32 = 2;

/// What an experiment tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A record came while the guest boots.
    Booting(&'a Record),
    /// The guest's clock is synced.
    Synced(&'a Status),
    /// A sample was taken; `number` counts from 1, and is 0 for the first fault after boot.
    Sampled {
        /// The fault.
        fault: Fault,
        /// Which of its samples.
        number: u32,
        /// Of how many.
        of: u32,
        /// What was measured.
        sample: &'a Sample,
    },
    /// A fault could not be done.
    Skipped {
        /// The fault.
        fault: Fault,
        /// Why.
        reason: &'a str,
    },
}

/// What an experiment came to.
#[derive(Debug)]
pub struct Outcome {
    /// What was measured, up to the error if there is one.
    pub report: Report,
    /// Why it did not get to its end.
    pub error: Option<ExperimentError>,
}

/// Why an experiment did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The fault program answered something else than what was asked.
    #[error(
        "the fault program in the guest answered request {got} where {expected} was under way; \
         the image and this program are of different versions: build the image again"
    )]
    WrongAnswer {
        /// The request's number.
        expected: u64,
        /// The answer's.
        got: u64,
    },
    /// A peer's program is not running.
    #[error(
        "{peer}: the program that was to keep the guest's clock {what}; the guest's console:\n{console}"
    )]
    PeerEnded {
        /// The peer.
        peer: String,
        /// What PID 1 says of it.
        what: String,
        /// The console's last lines.
        console: String,
    },
    /// A peer did not bring the clock near the truth.
    #[error(
        "{peer}: the guest's clock was still off by {offset} {after:.0?} after the boot; the \
         guest's console:\n{console}"
    )]
    PeerNeverRight {
        /// The peer.
        peer: String,
        /// Truth minus clock.
        offset: Nanos,
        /// The time since QEMU's start.
        after: Duration,
        /// The console's last lines.
        console: String,
    },
}

/// Waits for the machine's first sync, does the plan's faults and measures. One more fault, the
/// first after boot, is done before them and reported on its own.
///
/// Whatever happens, what was measured until then is in the outcome's report, and what was not
/// done is listed there with the reason.
pub fn run(
    machine: &mut Machine,
    plan: &Plan,
    accelerator: &Decision,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Outcome {
    let vcpus = machine.config().vcpus;
    let report = blank_report(machine.qemu_version(), vcpus, plan, accelerator);
    let feed = machine.feed();
    let mut experiment = Experiment {
        machine,
        plan,
        feed,
        report,
        requests: 0,
        waiting: None,
        progress,
    };
    let error = experiment.run().err();
    let mut report = experiment.report;
    if let Some(error) = &error {
        list_missing(&mut report, plan, error);
    }
    Outcome { report, error }
}

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
        let reason = match done.map_or(0, |done| done.summary.count) {
            count if count == plan.count => continue,
            0 => why.to_owned(),
            count => format!("ended after {count} of {} samples: {why}", plan.count),
        };
        report.not_run.push(NotRun {
            fault: name,
            reason,
        });
    }
}

struct Experiment<'a> {
    machine: &'a mut Machine,
    plan: &'a Plan,
    feed: Feed,
    report: Report,
    requests: u64,
    /// Begins with the first fault.
    waiting: Option<Waiting>,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

/// What one request came to.
enum Answered {
    Sample(Box<Sample>),
    Refused(String),
}

impl Experiment<'_> {
    fn run(&mut self) -> Result<(), ExperimentError> {
        self.wait_ready()?;
        self.waiting = Some(Waiting::begin(self.machine.pid()));
        let mut pause = self.plan.pauses();
        if let Some(&fault) = self.plan.faults.first() {
            thread::sleep(pause());
            self.first(fault)?;
        }
        for &fault in &self.plan.faults {
            self.fault(fault, &mut pause)?;
        }
        Ok(())
    }

    /// Waits for the first sync, the fault program, and a quiet moment.
    fn wait_ready(&mut self) -> Result<(), ExperimentError> {
        let progress = &mut self.progress;
        let mut status = self
            .machine
            .wait_synced(&self.feed, |record| progress(Progress::Booting(record)))?;
        (self.progress)(Progress::Synced(&status));
        let deadline = Instant::now() + self.machine.patience().sync();
        let awaited = "the fault program's greeting";
        while self.machine.test_answer(awaited, deadline)?.outcome != testport::Outcome::Ready {}
        for _ in 0..IDLE_RECORDS {
            status = self.next_status(deadline)?;
        }
        self.report.boot = Some(status.boot);
        self.report.init = Some(status.init);
        let environment = &mut self.report.environment;
        environment.kernel = Some(status.kernel);
        environment.clocksource = Some(status.clocksource);
        environment.source = status.source;
        environment.method = status.method;
        self.report.sources = status.sources;
        Ok(())
    }

    fn next_status(&mut self, deadline: Instant) -> Result<Status, MachineError> {
        loop {
            let awaited = "the next status record";
            match self.machine.record(&self.feed, awaited, deadline)? {
                Record::Status(status) => return Ok(status),
                Record::Event(_) => {}
            }
        }
    }

    /// The first fault after boot, which runs cold code.
    fn first(&mut self, fault: Fault) -> Result<(), ExperimentError> {
        match self.sample(fault)? {
            Answered::Sample(sample) => {
                self.report_sample(fault, 0, &sample);
                self.report.first = Some(FirstSample {
                    fault: fault.to_string(),
                    sample: *sample,
                });
            }
            // The samples proper will say so.
            Answered::Refused(_) => {}
        }
        Ok(())
    }

    fn fault(
        &mut self,
        fault: Fault,
        pause: &mut impl FnMut() -> Duration,
    ) -> Result<(), ExperimentError> {
        let index = self.report.faults.len();
        self.report.faults.push(FaultReport {
            fault: fault.to_string(),
            family: fault.family(),
            requested: self.plan.count,
            samples: Vec::new(),
            summary: Summary::default(),
        });
        for number in 1..=self.plan.count {
            thread::sleep(pause());
            match self.sample(fault)? {
                Answered::Sample(sample) => {
                    let entry = &mut self.report.faults[index];
                    entry.samples.push((*sample).clone());
                    entry.summary = Summary::of(&entry.samples);
                    self.report_sample(fault, number, &sample);
                }
                Answered::Refused(reason) => {
                    (self.progress)(Progress::Skipped {
                        fault,
                        reason: &reason,
                    });
                    self.report.not_run.push(NotRun {
                        fault: fault.to_string(),
                        reason,
                    });
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn report_sample(&mut self, fault: Fault, number: u32, sample: &Sample) {
        let waited = self.waiting.as_ref().and_then(Waiting::share);
        self.report.host.qemu_waited_share = waited;
        (self.progress)(Progress::Sampled {
            fault,
            number,
            of: self.plan.count,
            sample,
        });
    }

    /// Does one fault, and joins what the observer saw with what PID 1 recorded.
    fn sample(&mut self, fault: Fault) -> Result<Answered, ExperimentError> {
        // What came before the request belongs to no sample.
        while self.feed.next(Instant::now()).is_ok() {}
        self.requests += 1;
        let id = self.requests;
        let recovery = self.machine.patience().recovery();
        self.machine.send_test(&Request {
            v: 1,
            id,
            fault: fault.request(),
            tolerance_ns: self.plan.tolerance,
            settle_ns: self.plan.settle,
            deadline_ms: u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX),
        })?;
        let deadline = Instant::now() + recovery + self.machine.patience().answer();
        let answer = self
            .machine
            .test_answer("the fault program's answer", deadline)?;
        if answer.id != id {
            return Err(ExperimentError::WrongAnswer {
                expected: id,
                got: answer.id,
            });
        }
        match answer.outcome {
            testport::Outcome::Observed(observation) => {
                let account = self.account()?;
                Ok(Answered::Sample(Box::new(join(&observation, &account))))
            }
            testport::Outcome::Error(why) => Ok(Answered::Refused(why)),
            testport::Outcome::Steady(_) => Ok(Answered::Refused(
                "the fault program only watched".to_owned(),
            )),
            testport::Outcome::Ready => Ok(Answered::Refused(
                "the fault program started over in the middle of it".to_owned(),
            )),
        }
    }

    /// PID 1's records of the disruption just done.
    fn account(&mut self) -> Result<Account, MachineError> {
        let mut account = Account::default();
        let deadline = Instant::now() + RECORDS_DEADLINE;
        while !account.is_complete() {
            let record = match self.machine.record(&self.feed, "PID 1's record", deadline) {
                // That there is no record is a finding, not a failure.
                Err(MachineError::Deadline { .. }) => break,
                other => other?,
            };
            if let Record::Event(event) = record {
                account.take(&event.event);
            }
        }
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accel::{Accelerator, Decision};

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
