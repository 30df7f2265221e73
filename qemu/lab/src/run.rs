//! Doing an experiment: the plan's faults one after the other, each on the machine that it needs.

mod setting;

use std::thread;
use std::time::Duration;

use fastrand::Rng;
use noonmark_contract::record::{Record, Status};
use noonmark_contract::sample::Source;
use noonmark_contract::testport::Ask;
use noonmark_contract::units::Nanos;
use noonmark_qemu::accel::Decision;
use noonmark_qemu::vm::config::{Boot, Config};
use noonmark_qemu::vm::error::MachineError;
use noonmark_qemu::vm::machine::Machine;

use super::blank::{blank_report, list_missing};
use super::disturb;
use super::fault::{Family, Fault, Setting};
use super::host::Waiting;
use super::plan::{self, Plan};
use super::report::{FaultReport, FirstSample, NotRun, Report, Sample, Summary};
use super::session::{LOAD_WARM_UP, Session, Trouble};

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
    /// What was asked for can't be done in this guest; why.
    #[error("{0}")]
    Refused(String),
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

/// The guest for the faults that need another one than the machine's own: it has a NIC's driver, and
/// prefers the PHC that `vm::hotplug` names to the host's time channel. Or why there is none.
pub type NicGuest = Result<Boot, String>;

/// Waits for the machine's first sync, does the plan's faults and measures. One more step, the
/// first after boot, is done before them and reported on its own. Faults that need another machine
/// come last: the machine is then started over as that.
///
/// Whatever happens, what was measured until then is in the outcome's report, and what was not
/// done is listed there with the reason.
pub fn run(
    machine: &mut Machine,
    plan: &Plan,
    nic_guest: &NicGuest,
    accelerator: &Decision,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Outcome {
    let vcpus = machine.config().vcpus;
    let report = blank_report(machine.qemu_version(), vcpus, plan, accelerator);
    let mut experiment = Experiment {
        config: machine.config().clone(),
        session: Session::new(machine, plan),
        plan,
        nic_guest,
        report,
        setting: Some(Setting::Plain),
        source: None,
        kernel: None,
        waiting: None,
        moved: false,
        progress,
    };
    let error = experiment.run().err();
    let mut report = experiment.report;
    if let Some(error) = &error {
        list_missing(&mut report, plan, error);
    }
    Outcome { report, error }
}

struct Experiment<'a> {
    session: Session<'a>,
    plan: &'a Plan,
    nic_guest: &'a NicGuest,
    report: Report,
    /// What the machine was to begin with, and which of the settings it is in now; none where it
    /// could not be brought into one.
    config: Config,
    setting: Option<Setting>,
    /// The source that the guest follows, where it is not the report's.
    source: Option<Source>,
    /// The guest's kernel, where it is not the report's.
    kernel: Option<String>,
    waiting: Option<Waiting>,
    /// Whether the machine has run in another process before.
    moved: bool,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Experiment<'_> {
    fn run(&mut self) -> Result<(), ExperimentError> {
        let status = self.session.wait_ready(self.progress)?;
        self.describe(status);
        self.watch_waiting();
        let plan = self.plan;
        // The first fault after boot that a program in the guest does runs cold code.
        let cold = |fault: &&Fault| fault.family() == Family::Step;
        if let Some(&fault) = plan.faults.iter().find(cold) {
            self.first(fault)?;
        }
        for setting in Setting::ALL {
            for &fault in plan.faults.iter().filter(|f| f.setting() == setting) {
                match self.fault(fault) {
                    Ok(()) => {}
                    Err(Trouble::Refused(reason)) => self.skip(fault, reason),
                    Err(Trouble::Fatal(error)) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn describe(&mut self, status: Status) {
        self.report.boot = Some(status.boot);
        self.report.init = Some(status.init);
        let environment = &mut self.report.environment;
        environment.kernel = Some(status.kernel);
        environment.clocksource = Some(status.clocksource);
        environment.source = status.source;
        environment.method = status.method;
        self.report.sources = status.sources;
    }

    fn skip(&mut self, fault: Fault, reason: String) {
        skip(&mut self.report, self.progress, fault, reason);
    }

    fn first(&mut self, fault: Fault) -> Result<(), ExperimentError> {
        match self.sample(fault, 0) {
            Ok(sample) => {
                self.tell(fault, 0, &sample);
                self.report.first = Some(FirstSample {
                    fault: fault.to_string(),
                    sample,
                });
                Ok(())
            }
            // The samples proper will say so.
            Err(Trouble::Refused(_)) => Ok(()),
            Err(Trouble::Fatal(error)) => Err(error),
        }
    }

    fn fault(&mut self, fault: Fault) -> Result<(), Trouble> {
        if self.plan.wanted(fault) == 0 {
            return Ok(());
        }
        self.enter(fault.setting())?;
        let storm = matches!(fault, Fault::Storm { .. });
        if storm {
            self.session.order(Ask::Load)?;
            thread::sleep(LOAD_WARM_UP);
        }
        let done = self.samples(fault);
        if storm {
            self.session.order(Ask::EndLoad)?;
        }
        done
    }

    fn samples(&mut self, fault: Fault) -> Result<(), Trouble> {
        let index = self.report.faults.len();
        self.report.faults.push(FaultReport {
            fault: fault.to_string(),
            family: fault.family(),
            requested: self.plan.wanted(fault),
            samples: Vec::new(),
            summary: Summary::default(),
        });
        for number in self.plan.numbers(fault) {
            let sample = self.sample(fault, number)?;
            self.tell(fault, number, &sample);
            let entry = &mut self.report.faults[index];
            entry.samples.push(sample);
            entry.summary = Summary::of(&entry.samples);
        }
        Ok(())
    }

    /// Waits for the sample's moment and takes it.
    fn sample(&mut self, fault: Fault, number: u32) -> Result<Sample, Trouble> {
        let seed = self.plan.sample_seed(fault, number);
        let mut random = Rng::with_seed(seed);
        thread::sleep(plan::pause(fault, &mut random));
        let waiting = Waiting::begin(self.session.machine.pid());
        let taken = disturb::sample(&mut self.session, fault, &mut random);
        // The machine may run in another process now.
        self.watch_waiting();
        let mut sample = taken?;
        sample.waited_ns = waiting.waited(self.session.machine.pid());
        sample.number = number;
        sample.seed = seed;
        sample.replay = self.plan.replay(fault, number);
        sample.source.clone_from(&self.source);
        if let Some(kernel) = &self.kernel {
            sample.detail += &format!(", kernel {kernel}");
        }
        Ok(sample)
    }

    fn tell(&mut self, fault: Fault, number: u32, sample: &Sample) {
        let waited = self.waiting.as_ref().and_then(Waiting::share);
        let share = &mut self.report.host.qemu_waited_share;
        // The worst of the processes that the machine has run in.
        *share = match (*share, waited) {
            (Some(before), Some(now)) if self.moved => Some(before.max(now)),
            (before, now) => now.or(before),
        };
        (self.progress)(Progress::Sampled {
            fault,
            number,
            of: self.plan.wanted(fault),
            sample,
        });
    }

    fn watch_waiting(&mut self) {
        let pid = self.session.machine.pid();
        if self.waiting.as_ref().is_none_or(|old| old.pid() != pid) {
            self.moved = self.waiting.is_some();
            self.waiting = Some(Waiting::begin(pid));
        }
    }
}

/// Notes that a fault is not done, and why.
pub(super) fn skip(
    report: &mut Report,
    progress: &mut dyn FnMut(Progress<'_>),
    fault: Fault,
    reason: String,
) {
    progress(Progress::Skipped {
        fault,
        reason: &reason,
    });
    report.not_run.push(NotRun {
        fault: fault.to_string(),
        reason,
    });
}
