//! Doing an experiment: the plan's faults one after the other, each on the machine that it needs.

mod enter;

use std::thread;

use fastrand::Rng;
use noonmark_contract::record::Status;
use noonmark_contract::sample::Source;
use noonmark_qemu::accel::Decision;
use noonmark_qemu::{Config, Machine};

use crate::fault::plan::{self, Plan};
use crate::fault::{Fault, MachineVariant};
use crate::report::Sample;
use crate::report::host::RunDelay;

use super::course::{self, Guests};
use super::outcome::{ExperimentError, NicGuest, Outcome, Progress, SampleError};
use super::recorder::Recorder;
use super::sample;
use super::session::Session;

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
    let mut recorder = Recorder::new(plan, accelerator, progress);
    let environment = &mut recorder.report.environment;
    environment.qemu = machine.qemu_version().to_owned();
    environment.vcpus = machine.config().vcpus;
    let mut experiment = Experiment {
        config: machine.config().clone(),
        session: Session::new(machine, plan),
        plan,
        nic_guest,
        recorder,
        variant: Some(MachineVariant::Plain),
        source: None,
        kernel: None,
        run_delay: None,
        moved: false,
        boot: 1,
        loaded: false,
    };
    let error = experiment.run().err();
    experiment.recorder.finish(error)
}

struct Experiment<'a> {
    session: Session<'a>,
    plan: &'a Plan,
    nic_guest: &'a NicGuest,
    recorder: Recorder<'a>,
    /// What the machine was to begin with, and which variant of that it is now; none where it
    /// could not be brought into one.
    config: Config,
    variant: Option<MachineVariant>,
    /// The source that the guest follows, where it is not the report's.
    source: Option<Source>,
    /// The guest's kernel, where it is not the report's.
    kernel: Option<String>,
    run_delay: Option<RunDelay>,
    /// Whether the machine has run in another process before.
    moved: bool,
    /// Which of the guest's boots this is.
    boot: u32,
    /// Whether the guest is under load.
    loaded: bool,
}

impl Experiment<'_> {
    fn run(&mut self) -> Result<(), ExperimentError> {
        let status = self.session.wait_ready(self.recorder.progress)?;
        self.session.hold_to(&status);
        self.describe(status);
        let synced = self.session.host_error(self.session.wanted_bound());
        let report = &mut self.recorder.report;
        report.synced = Some(synced.map_err(SampleError::into_error)?);
        report.error_limit_ns = Some(self.session.error_limit);
        self.follow_process();
        course::run(self)
    }

    fn describe(&mut self, status: Status) {
        let report = &mut self.recorder.report;
        report.boot = Some(status.boot);
        report.boot_exits = self.session.boot_exits;
        report.init = Some(status.init);
        report.sources = status.sources;
        let environment = &mut report.environment;
        environment.kernel = Some(status.kernel);
        environment.clocksource = Some(status.clocksource);
        environment.source = status.source;
        environment.method = status.method;
    }

    /// Writes down how long QEMU had to wait: the worst of the processes that it has run in.
    fn note_run_delay(&mut self) {
        let waited = self.run_delay.as_ref().and_then(RunDelay::share);
        let share = &mut self.recorder.report.host.qemu_waited_share;
        *share = match (*share, waited) {
            (Some(before), Some(now)) if self.moved => Some(before.max(now)),
            (before, now) => now.or(before),
        };
    }

    fn follow_process(&mut self) {
        let pid = self.session.machine.pid();
        if self.run_delay.as_ref().is_none_or(|old| old.pid() != pid) {
            self.moved = self.run_delay.is_some();
            self.run_delay = Some(RunDelay::begin(pid));
        }
    }
}

impl<'a> Guests<'a> for Experiment<'a> {
    fn recorder(&mut self) -> &mut Recorder<'a> {
        &mut self.recorder
    }

    fn enter(&mut self, fault: Fault) -> Result<(), SampleError> {
        self.become_variant(fault.machine())?;
        let wanted = course::is_loaded(fault);
        if wanted != self.loaded {
            course::load(&mut self.session, wanted)?;
            self.loaded = wanted;
        }
        Ok(())
    }

    /// Waits for the sample's moment and takes it.
    fn sample(&mut self, fault: Fault, number: u32) -> Result<Sample, SampleError> {
        let seed = self.plan.sample_seed(fault, number);
        let mut random = Rng::with_seed(seed);
        thread::sleep(plan::pause(fault, &mut random));
        let run_delay = RunDelay::begin(self.session.machine.pid());
        let taken = sample::take(&mut self.session, fault, &mut random);
        // The machine may run in another process now.
        self.follow_process();
        let mut sample = taken?;
        self.note_run_delay();
        sample.waited_ns = run_delay.waited(self.session.machine.pid());
        sample.number = number;
        sample.seed = seed;
        sample.replay = self.plan.replay(fault, number);
        sample.boot = self.boot;
        sample.source.clone_from(&self.source);
        if let Some(kernel) = &self.kernel {
            sample.detail += &format!(", kernel {kernel}");
        }
        Ok(sample)
    }
}
