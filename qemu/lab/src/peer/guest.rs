//! A booted machine in which a peer keeps the clock, from its boot to a sample of a fault.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use noonmark_contract::record::{Event, Record, Status};
use noonmark_contract::testport::{self, Outcome as Answered};
use noonmark_contract::units::Nanos;
use noonmark_qemu::{Machine, MachineError, Subscription};

use crate::fault::plan::{self, Plan};
use crate::fault::{Fault, MachineVariant};
use crate::report::host::RunDelay;
use crate::report::steady;
use crate::report::{Report, Sample};
use crate::run::course;
use crate::run::sample;
use crate::run::session::Session;
use crate::run::variant::configured;
use crate::run::{ExperimentError, SampleError};

/// How long a clock is watched to find out whether it is right.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// How far the clock may be off before a fault, as a share of the tolerance: what is left over from
/// before is not taken for the fault's doing.
pub(crate) const RIGHT_SHARE: i64 = 10;

/// A pause before a fault is this many times the plan's: peers poll every few seconds, and a fault
/// is to fall on no fixed phase of that.
const PAUSE_FACTOR: u32 = 8;

/// How often the observer tries to learn the clock's line while the peer still works at it.
const TRIES: u32 = 4;

/// Time between two of these.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Lines of the console that an error shows.
const CONSOLE_LINES: usize = 15;

/// What keeps the clock of a guest.
#[derive(Clone, Debug)]
pub struct Keeper {
    /// What messages call it.
    pub name: String,
    /// The service that does it, whose process has the same name; none where PID 1 does it itself,
    /// so that its steady state and its boots are measured in just the same way.
    pub service: Option<String>,
    /// How long after the fault program's greeting it gets to settle.
    pub warm_up: Duration,
    /// How long from QEMU's start until the clock must have been right.
    pub right_within: Duration,
    /// How long after a fault the clock is watched.
    pub recovery: Duration,
}

/// Starts a machine with the peer in it, whose RTC is right or not.
pub type Boot<'a> = dyn FnMut() -> Result<Machine, MachineError> + 'a;

/// A booted machine with the peer in it.
pub(crate) struct Guest<'a> {
    pub(crate) machine: Machine,
    records: Subscription,
    keeper: &'a Keeper,
    variant: MachineVariant,
    /// When the fault program was ready.
    greeted: Instant,
    run_delay: RunDelay,
    /// Its first status record.
    status: Status,
    /// What became of the peer's program, once it is no longer running.
    ended: Option<String>,
    heard: Vec<Status>,
    requests: u64,
    loaded: bool,
}

impl<'a> Guest<'a> {
    /// Boots one, as the machine of `variant`.
    pub(crate) fn boot(
        boot: &mut Boot<'_>,
        keeper: &'a Keeper,
        variant: MachineVariant,
    ) -> Result<Self, SampleError> {
        let mut machine = boot()?;
        if variant != MachineVariant::Plain {
            let no_nic = Err("a peer's guest follows no NIC".to_owned());
            let config = configured(machine.config(), &no_nic, variant)?;
            machine.restart_with(config)?;
        }
        let records = machine.subscribe();
        let deadline = machine.started() + machine.timeouts().boot();
        let mut ended = None;
        let status = loop {
            let awaited = "the first status record";
            match machine.record(&records, awaited, deadline)? {
                Record::Status(status) => break status,
                Record::Event(event) => ended = ended.or(end_of(keeper, &event.event)),
            }
        };
        let deadline = Instant::now() + machine.timeouts().sync();
        let awaited = "the fault program's greeting";
        while machine.test_answer(awaited, deadline)?.outcome != Answered::Ready {}
        let pid = machine.pid();
        Ok(Self {
            machine,
            records,
            keeper,
            variant,
            greeted: Instant::now(),
            run_delay: RunDelay::begin(pid),
            status,
            ended,
            heard: Vec::new(),
            requests: 0,
            loaded: false,
        })
    }

    /// Whether it is the machine that a fault needs.
    pub(crate) fn suits(&self, fault: Fault) -> bool {
        self.variant == fault.machine()
    }

    /// Writes down where the experiment takes place.
    pub(crate) fn describe(&self, report: &mut Report) {
        let environment = &mut report.environment;
        environment.qemu = self.machine.qemu_version().to_owned();
        environment.vcpus = self.machine.config().vcpus;
        environment.kernel = Some(self.status.kernel.clone());
        environment.clocksource = Some(self.status.clocksource.clone());
        report.boot = Some(self.status.boot);
    }

    /// How long the guest has been up, at least.
    pub(crate) fn up(&self) -> Duration {
        self.greeted.elapsed()
    }

    /// The share of the time that its QEMU had to wait for a processor.
    pub(crate) fn waited(&self) -> Option<f64> {
        self.run_delay.share()
    }

    /// The status records that have come since this was last asked, or since the last watch began.
    pub(crate) fn heard(&mut self) -> Vec<Status> {
        self.listen();
        std::mem::take(&mut self.heard)
    }

    fn listen(&mut self) {
        while let Ok(record) = self.records.next(Instant::now()) {
            match record {
                Record::Status(status) => self.heard.push(status),
                Record::Event(event) => {
                    self.ended = self.ended.take().or(end_of(self.keeper, &event.event));
                }
            }
        }
    }

    /// Compares the clock with ptp_kvm's for a while.
    pub(crate) fn watch(
        &mut self,
        span: Duration,
        every: Duration,
    ) -> Result<testport::Steady, SampleError> {
        self.heard();
        let plan = Plan::new(Vec::new());
        let seen = self.ask(&plan, |session| session.watch(span, every));
        self.listen();
        match &self.ended {
            // Without a reference a peer ends too, and the lack is what is worth telling.
            Some(what) if seen.is_ok() => Err(SampleError::Fatal(ExperimentError::PeerEnded {
                peer: self.keeper.name.clone(),
                what: what.clone(),
                console: self.console(),
            })),
            _ => seen,
        }
    }

    /// Watches the clock for a moment.
    pub(crate) fn look(&mut self) -> Result<testport::Steady, SampleError> {
        self.watch(LOOK, LOOK / 10)
    }

    /// Waits until the peer has settled and the clock is right.
    pub(crate) fn wait_right(&mut self, limit: Nanos) -> Result<(), SampleError> {
        self.settle(limit, |guest| {
            let seen = guest.look()?;
            Ok(steady::largest(&seen.offsets_ns))
        })
    }

    /// Waits until the peer has settled and the clock is off by at most `limit`.
    pub(crate) fn settle(
        &mut self,
        limit: Nanos,
        mut offset: impl FnMut(&mut Self) -> Result<Nanos, SampleError>,
    ) -> Result<(), SampleError> {
        // Counted anew for each fault: the boot is only the first of what may take long.
        let began = Instant::now();
        loop {
            let offset = offset(self)?;
            if self.greeted.elapsed() >= self.keeper.warm_up && offset <= limit {
                return Ok(());
            }
            if began.elapsed() > self.keeper.right_within {
                return Err(SampleError::Fatal(ExperimentError::PeerNeverRight {
                    peer: self.keeper.name.clone(),
                    offset,
                    after: self.machine.started().elapsed(),
                    console: self.console(),
                }));
            }
        }
    }

    /// Does one fault, as soon as the clock is right.
    pub(crate) fn sample(
        &mut self,
        fault: Fault,
        plan: &Plan,
        number: u32,
    ) -> Result<Sample, SampleError> {
        self.load(course::is_loaded(fault), plan)?;
        let seed = plan.sample_seed(fault, number);
        let mut why = String::new();
        for _ in 0..TRIES {
            let mut random = Rng::with_seed(seed);
            self.wait_right(Nanos(plan.tolerance.0 / RIGHT_SHARE))?;
            thread::sleep(plan::pause(fault, &mut random) * PAUSE_FACTOR);
            let taken = self.ask(plan, |session| sample::take(session, fault, &mut random));
            match taken {
                Ok(sample) => {
                    return Ok(Sample {
                        number,
                        seed,
                        ..sample
                    });
                }
                Err(SampleError::Refused(reason)) => why = reason,
                Err(fatal) => return Err(fatal),
            }
            thread::sleep(TRY_AGAIN);
        }
        Err(SampleError::Refused(why))
    }

    /// Has something done in a session with the fault program.
    pub(crate) fn ask<T>(
        &mut self,
        plan: &Plan,
        what: impl FnOnce(&mut Session<'_>) -> Result<T, SampleError>,
    ) -> Result<T, SampleError> {
        let recovery = self.keeper.recovery;
        let mut session = Session::with_peer(&mut self.machine, plan, recovery, self.requests);
        let done = what(&mut session);
        self.requests = session.requests();
        let pid = self.machine.pid();
        if pid != self.run_delay.pid() {
            // The machine runs in another process now.
            self.run_delay = RunDelay::begin(pid);
        }
        done
    }

    /// Puts the guest under load, or ends that.
    fn load(&mut self, wanted: bool, plan: &Plan) -> Result<(), SampleError> {
        if wanted == self.loaded {
            return Ok(());
        }
        self.ask(plan, |session| course::load(session, wanted))?;
        self.loaded = wanted;
        Ok(())
    }

    fn console(&self) -> String {
        self.machine.console_tail(CONSOLE_LINES).join("\n")
    }
}

/// What became of the peer's program, where an event tells that it is not running.
fn end_of(keeper: &Keeper, event: &Event) -> Option<String> {
    match event {
        Event::Service { name, what }
            if keeper.service.as_ref() == Some(name) && !what.starts_with("started") =>
        {
            Some(what.clone())
        }
        _ => None,
    }
}
