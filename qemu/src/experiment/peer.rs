//! The experiment with a peer: PID 1 leaves the guest's clock alone, another program keeps it, and
//! the same fault program disturbs and watches it.
//!
//! The truth that a peer has to come to is ptp_kvm's clock, as the fault program reads it; a host
//! that doesn't offer that has nothing that a peer could follow either.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use noonmark_sync::record::{Event, Record, Status};
use noonmark_sync::testport::{self, Outcome as Answered, Request};
use noonmark_sync::units::Nanos;

use super::account::{Account, join};
use super::bench::FirstRead;
use super::blank::{blank_report, list_missing};
use super::fault::Fault;
use super::host::Waiting;
use super::plan::{self, Plan};
use super::report::{FaultReport, NotRun, Report, Sample, Summary};
use super::run::{ExperimentError, Outcome, Progress};
use super::steady::{self, KeptBy, NotWatched, SteadyState, right_since};
use crate::accel::Decision;
use crate::hub::Feed;
use crate::vm::error::MachineError;
use crate::vm::machine::Machine;

/// How long a clock is watched to find out whether it is right.
const LOOK: Duration = Duration::from_millis(200);

/// How far the clock may be off before a fault, as a share of the tolerance: what is left over from
/// before is not taken for the fault's doing.
const RIGHT_SHARE: i64 = 10;

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
pub struct Peer {
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

/// Does the plan's faults. A clock that did not get right is not disturbed again: the next sample
/// is taken in a fresh boot.
///
/// Whatever happens, what was measured until then is in the outcome's report, and what was not
/// done is listed there with the reason.
pub fn run(
    boot: &mut Boot<'_>,
    peer: &Peer,
    plan: &Plan,
    accelerator: &Decision,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Outcome {
    let mut session = Session {
        boot,
        peer,
        plan,
        report: blank_report("", 0, plan, accelerator),
        guest: None,
        progress,
    };
    let mut faults = plan.faults.iter();
    let error = faults.find_map(|&fault| session.fault(fault).err());
    let mut report = session.report;
    if let Some(error) = &error {
        list_missing(&mut report, plan, error);
    }
    Outcome { report, error }
}

/// Boots once and watches the undisturbed clock for `span`; where that takes place is written to
/// `report`.
///
/// # Errors
/// Where the guest or the peer fails; the inner error says why the clock could not be watched.
pub fn steady(
    boot: &mut Boot<'_>,
    peer: &Peer,
    span: Duration,
    report: &mut Report,
) -> Result<Result<SteadyState, NotWatched>, ExperimentError> {
    let mut guest = Guest::boot(boot, peer)?;
    guest.describe(report);
    if let Err(why) = guest.wait_right(Nanos::from_micros(100))? {
        return Ok(Err(why));
    }
    let warm_up = guest.greeted.elapsed();
    let id = guest.next_id();
    let seen = steady::watch(&mut guest.machine, id, span)?;
    let kept_by = peer
        .service
        .as_deref()
        .map_or(KeptBy::Init, KeptBy::Program);
    Ok(seen.map(|seen| SteadyState::of(seen, warm_up, kept_by)))
}

/// Boots once, and tells what a program that was started at boot read, and when the clock was right
/// within the report's tolerance.
///
/// # Errors
/// Where the guest or the peer fails; the inner error says why the clock could not be watched.
pub fn first_read(
    boot: &mut Boot<'_>,
    peer: &Peer,
    report: &mut Report,
) -> Result<Result<FirstRead, NotWatched>, ExperimentError> {
    let mut guest = Guest::boot(boot, peer)?;
    guest.describe(report);
    let mut first: Option<FirstRead> = None;
    loop {
        let seen = match guest.look()? {
            Ok(seen) => seen,
            Err(why) => return Ok(Err(why)),
        };
        let new = first.is_none();
        let read = first.get_or_insert(FirstRead {
            error_ns: seen.first_read_ns,
            at_ns: seen.first_read_at_ns,
            right_at_ns: None,
        });
        let since = right_since(&seen, report.tolerance_ns);
        // Right at its first read, and at every one since: then it was never seen wrong.
        let never_wrong = new && read.error_ns.abs() <= report.tolerance_ns;
        read.right_at_ns = match since {
            Some(since) if never_wrong && since == seen.began_at_ns => Some(read.at_ns),
            since => since,
        };
        let late = guest.machine.started().elapsed() > peer.right_within;
        if read.right_at_ns.is_some() || late {
            return Ok(Ok(*read));
        }
    }
}

/// The faults, over as many boots as they take.
struct Session<'a, 'b> {
    boot: &'a mut Boot<'b>,
    peer: &'a Peer,
    plan: &'a Plan,
    report: Report,
    /// None before the first fault, and after one that the peer did not repair.
    guest: Option<Guest<'a>>,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Session<'_, '_> {
    fn fault(&mut self, fault: Fault) -> Result<(), ExperimentError> {
        let index = self.report.faults.len();
        self.report.faults.push(FaultReport {
            fault: fault.to_string(),
            family: fault.family(),
            requested: self.plan.count,
            samples: Vec::new(),
            summary: Summary::default(),
        });
        for number in 1..=self.plan.count {
            let sample = match self.sample(fault, number)? {
                Ok(sample) => Sample { number, ..sample },
                Err(reason) => {
                    let reason = &*reason;
                    (self.progress)(Progress::Skipped { fault, reason });
                    self.report.not_run.push(NotRun {
                        fault: fault.to_string(),
                        reason: reason.to_owned(),
                    });
                    return Ok(());
                }
            };
            (self.progress)(Progress::Sampled {
                fault,
                number,
                of: self.plan.count,
                sample: &sample,
            });
            let entry = &mut self.report.faults[index];
            entry.samples.push(sample);
            entry.summary = Summary::of(&entry.samples);
        }
        Ok(())
    }

    /// Does a fault once, in the guest that is there or in a new one; the inner error says why it
    /// can't be done.
    fn sample(
        &mut self,
        fault: Fault,
        number: u32,
    ) -> Result<Result<Sample, String>, ExperimentError> {
        let guest = match &mut self.guest {
            Some(guest) => guest,
            empty => {
                let new = Guest::boot(self.boot, self.peer)?;
                new.describe(&mut self.report);
                empty.insert(new)
            }
        };
        let sampled = guest.sample(fault, self.plan, number)?;
        // Of several boots the one that had to wait most is told.
        let waited = &mut self.report.host.qemu_waited_share;
        *waited = [*waited, guest.waiting.share()]
            .into_iter()
            .flatten()
            .reduce(f64::max);
        if matches!(&sampled, Ok(sample) if sample.recovered_ns.is_none()) {
            self.guest = None;
        }
        Ok(sampled)
    }
}

/// A booted machine with the peer in it.
struct Guest<'a> {
    machine: Machine,
    feed: Feed,
    peer: &'a Peer,
    /// When the fault program was ready.
    greeted: Instant,
    waiting: Waiting,
    /// Its first status record.
    status: Status,
    /// What became of the peer's program, once it is no longer running.
    ended: Option<String>,
    requests: u64,
}

impl<'a> Guest<'a> {
    fn boot(boot: &mut Boot<'_>, peer: &'a Peer) -> Result<Self, ExperimentError> {
        let mut machine = boot()?;
        let feed = machine.feed();
        let deadline = machine.started() + machine.patience().boot();
        let mut ended = None;
        let status = loop {
            let awaited = "the first status record";
            match machine.record(&feed, awaited, deadline)? {
                Record::Status(status) => break status,
                Record::Event(event) => ended = ended.or(end_of(peer, &event.event)),
            }
        };
        let deadline = Instant::now() + machine.patience().sync();
        let awaited = "the fault program's greeting";
        while machine.test_answer(awaited, deadline)?.outcome != Answered::Ready {}
        let pid = machine.pid();
        Ok(Self {
            machine,
            feed,
            peer,
            greeted: Instant::now(),
            waiting: Waiting::begin(pid),
            status,
            ended,
            requests: 0,
        })
    }

    /// Writes down where the experiment takes place.
    fn describe(&self, report: &mut Report) {
        let environment = &mut report.environment;
        environment.qemu = self.machine.qemu_version().to_owned();
        environment.vcpus = self.machine.config().vcpus;
        environment.kernel = Some(self.status.kernel.clone());
        environment.clocksource = Some(self.status.clocksource.clone());
        report.boot = Some(self.status.boot);
    }

    fn next_id(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Watches the clock for a moment.
    fn look(&mut self) -> Result<Result<testport::Steady, NotWatched>, ExperimentError> {
        let id = self.next_id();
        let seen = steady::watch(&mut self.machine, id, LOOK)?;
        while let Ok(record) = self.feed.next(Instant::now()) {
            if let Record::Event(event) = record {
                self.ended = self.ended.take().or(end_of(self.peer, &event.event));
            }
        }
        match &self.ended {
            // Without a reference a peer ends too, and the lack is what is worth telling.
            Some(what) if seen.is_ok() => Err(ExperimentError::PeerEnded {
                peer: self.peer.name.clone(),
                what: what.clone(),
                console: self.machine.console_tail(CONSOLE_LINES).join("\n"),
            }),
            _ => Ok(seen),
        }
    }

    /// Waits until the peer has settled and the clock is right.
    fn wait_right(&mut self, limit: Nanos) -> Result<Result<(), NotWatched>, ExperimentError> {
        // Counted anew for each fault: the boot is only the first of what may take long.
        let began = Instant::now();
        loop {
            let seen = match self.look()? {
                Ok(seen) => seen,
                Err(why) => return Ok(Err(why)),
            };
            let offset = steady::largest(&seen.offsets_ns);
            if self.greeted.elapsed() >= self.peer.warm_up && offset <= limit {
                return Ok(Ok(()));
            }
            if began.elapsed() > self.peer.right_within {
                return Err(ExperimentError::PeerNeverRight {
                    peer: self.peer.name.clone(),
                    offset,
                    after: self.machine.started().elapsed(),
                    console: self.machine.console_tail(CONSOLE_LINES).join("\n"),
                });
            }
        }
    }

    /// Does one fault; the inner error says why it can't be done.
    fn sample(
        &mut self,
        fault: Fault,
        plan: &Plan,
        number: u32,
    ) -> Result<Result<Sample, String>, ExperimentError> {
        let Some(request) = fault.request() else {
            return Ok(Err(
                "it is done from the host or by several programs; a peer's guest is disturbed by \
                 the fault program alone"
                    .to_owned(),
            ));
        };
        let mut random = Rng::with_seed(plan.sample_seed(fault, number));
        let mut why = String::new();
        for _ in 0..TRIES {
            if let Err(why) = self.wait_right(Nanos(plan.tolerance.0 / RIGHT_SHARE))? {
                return Ok(Err(why.to_string()));
            }
            thread::sleep(plan::pause(fault, &mut random) * PAUSE_FACTOR);
            match self.disturb(request, plan)? {
                Answered::Observed(observation) => {
                    return Ok(Ok(join(&observation, &Account::default())));
                }
                Answered::Error(error) => why = error,
                _ => {
                    why = "the fault program started over in the middle of it".to_owned();
                }
            }
            thread::sleep(TRY_AGAIN);
        }
        Ok(Err(why))
    }

    fn disturb(
        &mut self,
        fault: testport::Fault,
        plan: &Plan,
    ) -> Result<Answered, ExperimentError> {
        let id = self.next_id();
        self.machine.send_test(&Request {
            v: 1,
            id,
            fault,
            tolerance_ns: plan.tolerance,
            settle_ns: plan.settle,
            deadline_ms: u64::try_from(self.peer.recovery.as_millis()).unwrap_or(u64::MAX),
        })?;
        let deadline = Instant::now() + self.peer.recovery + self.machine.patience().answer();
        let awaited = "the fault program's answer";
        let answer = self.machine.test_answer(awaited, deadline)?;
        if answer.id == id {
            return Ok(answer.outcome);
        }
        Err(ExperimentError::WrongAnswer {
            expected: id,
            got: answer.id,
        })
    }
}

/// What became of the peer's program, where an event tells that it is not running.
fn end_of(peer: &Peer, event: &Event) -> Option<String> {
    match event {
        Event::Service { name, what }
            if peer.service.as_ref() == Some(name) && !what.starts_with("started") =>
        {
            Some(what.clone())
        }
        _ => None,
    }
}
