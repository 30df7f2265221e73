//! The experiment with a peer: PID 1 leaves the guest's clock alone, another program keeps it, and
//! the same fault program disturbs and watches it.
//!
//! The truth that a peer has to come to is ptp_kvm's clock, as the fault program reads it; a host
//! that doesn't offer that has nothing that a peer could follow either.

mod guest;
mod watch;

use std::time::Duration;

use self::guest::Guest;
use self::watch::Watch;
use noonmark_contract::units::Nanos;
use noonmark_qemu::accel::Decision;
use noonmark_qemu::vm::error::MachineError;
use noonmark_qemu::vm::machine::Machine;

use super::bench::FirstRead;
use super::blank::{blank_report, list_missing};
use super::fault::{Family, Fault, Setting};
use super::plan::Plan;
use super::report::{FaultReport, Report, Sample, Summary};
use super::run::{self, ExperimentError, Outcome, Progress};
use super::session::Trouble;
use super::steady::{KeptBy, SteadyState, right_since};

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
    let mut experiment = Faults {
        boot,
        peer,
        plan,
        report: blank_report("", 0, plan, accelerator),
        guest: None,
        progress,
    };
    let mut faults = plan.faults.iter();
    let error = faults.find_map(|&fault| experiment.fault(fault).err());
    let mut report = experiment.report;
    if let Some(error) = &error {
        list_missing(&mut report, plan, error);
    }
    Outcome { report, error }
}

/// What came of watching an undisturbed clock.
#[derive(Debug)]
pub struct Watched {
    /// What was seen, up to the error if there is one; none where nothing was.
    pub state: Option<SteadyState>,
    /// Why it was not watched to the end.
    pub error: Option<ExperimentError>,
}

/// Boots once and watches the undisturbed clock for `span`; where that takes place is written to
/// `report`. What was seen so far goes to `told` every few seconds.
pub fn steady(
    boot: &mut Boot<'_>,
    peer: &Peer,
    span: Duration,
    report: &mut Report,
    told: &mut dyn FnMut(&SteadyState),
) -> Watched {
    let mut state = SteadyState::default();
    let mut watched = || -> Result<(), Trouble> {
        let mut guest = Guest::boot(boot, peer, Setting::Plain)?;
        guest.describe(report);
        let kept_by = peer
            .service
            .as_deref()
            .map_or(KeptBy::Init, KeptBy::Program);
        let mut watch = Watch::begin(&mut guest, kept_by, span)?;
        state.warm_up_ns = watch.warm_up();
        watch.go_on(span, &mut state, told)
    };
    let error = watched().map_err(Trouble::into_error).err();
    Watched {
        state: (!state.offsets_ns.is_empty()).then(|| state.finish()),
        error,
    }
}

/// Boots once, and tells what a program that was started at boot read, and when the clock was right
/// within the report's tolerance.
///
/// # Errors
/// Where the guest or the peer fails, or the clock can't be watched.
pub fn first_read(
    boot: &mut Boot<'_>,
    peer: &Peer,
    report: &mut Report,
) -> Result<FirstRead, ExperimentError> {
    let mut read = || -> Result<FirstRead, Trouble> {
        let mut guest = Guest::boot(boot, peer, Setting::Plain)?;
        guest.describe(report);
        until_right(&mut guest, peer, report.tolerance_ns)
    };
    read().map_err(Trouble::into_error)
}

fn until_right(guest: &mut Guest<'_>, peer: &Peer, tolerance: Nanos) -> Result<FirstRead, Trouble> {
    let mut first: Option<FirstRead> = None;
    loop {
        let seen = guest.look()?;
        let new = first.is_none();
        let read = first.get_or_insert(FirstRead {
            error_ns: seen.first_read_ns,
            at_ns: seen.first_read_at_ns,
            right_at_ns: None,
        });
        // Right at its first read, and at every one since: then it was never seen wrong.
        let never_wrong = new && read.error_ns.abs() <= tolerance;
        read.right_at_ns = match right_since(&seen, tolerance) {
            Some(since) if never_wrong && since == seen.began_at_ns => Some(read.at_ns),
            since => since,
        };
        let late = guest.machine.started().elapsed() > peer.right_within;
        if read.right_at_ns.is_some() || late {
            return Ok(*read);
        }
    }
}

/// The faults, over as many boots as they take.
struct Faults<'a, 'b> {
    boot: &'a mut Boot<'b>,
    peer: &'a Peer,
    plan: &'a Plan,
    report: Report,
    /// None before the first fault, and after one that the peer did not repair.
    guest: Option<Guest<'a>>,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Faults<'_, '_> {
    fn fault(&mut self, fault: Fault) -> Result<(), ExperimentError> {
        let index = self.report.faults.len();
        let wanted = self.plan.wanted(fault);
        self.report.faults.push(FaultReport {
            fault: fault.to_string(),
            family: fault.family(),
            requested: wanted,
            samples: Vec::new(),
            summary: Summary::default(),
        });
        for number in self.plan.numbers(fault) {
            let sample = match self.sample(fault, number) {
                Ok(sample) => sample,
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Refused(reason)) => {
                    self.skip(fault, reason);
                    return Ok(());
                }
            };
            (self.progress)(Progress::Sampled {
                fault,
                number,
                of: wanted,
                sample: &sample,
            });
            let entry = &mut self.report.faults[index];
            entry.samples.push(sample);
            entry.summary = Summary::of(&entry.samples);
        }
        Ok(())
    }

    fn skip(&mut self, fault: Fault, reason: String) {
        run::skip(&mut self.report, self.progress, fault, reason);
    }

    /// Does a fault once, in the guest that is there or in a new one.
    fn sample(&mut self, fault: Fault, number: u32) -> Result<Sample, Trouble> {
        if matches!(fault.family(), Family::SourceLoss | Family::Liar) {
            let why =
                "it is done to a source that only noonmark follows; peers follow ptp_kvm alone";
            return Err(Trouble::Refused(why.to_owned()));
        }
        self.guest = self.guest.take().filter(|guest| guest.suits(fault));
        let guest = match &mut self.guest {
            Some(guest) => guest,
            empty => {
                let new = Guest::boot(self.boot, self.peer, fault.setting())?;
                new.describe(&mut self.report);
                empty.insert(new)
            }
        };
        let sampled = guest.sample(fault, self.plan, number);
        // Of several boots the one that had to wait most is told.
        let waited = &mut self.report.host.qemu_waited_share;
        *waited = [*waited, guest.waited()]
            .into_iter()
            .flatten()
            .reduce(f64::max);
        if !matches!(&sampled, Ok(sample) if sample.recovered_ns.is_some()) {
            self.guest = None;
        }
        sampled
    }
}
