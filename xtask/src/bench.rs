//! Boots a guest as often as a bench needs it, and measures what was asked for.

use std::time::Duration;

use anyhow::Result;
use noonmark_image::spec::VmSpec;
use noonmark_qemu::experiment::bench::{MissingPeer, Package, PeerRun};
use noonmark_qemu::experiment::evidence::Evidence;
use noonmark_qemu::experiment::peer::{self, Peer as Keeper};
use noonmark_qemu::experiment::plan::Plan;
use noonmark_qemu::experiment::{self, Outcome, Progress};
use noonmark_qemu::vm::config::{Boot, Config, Rtc};
use noonmark_qemu::vm::error::MachineError;
use noonmark_qemu::vm::machine::Machine;
use noonmark_sync::units::Utc;

use crate::build::peer::Peer;
use crate::cmd::options::Host;
use crate::progress::{self, Step};

/// The RTC of the boots with a wrong one: 2001-01-01.
const WRONG_RTC: Rtc = Rtc::From(Utc(978_307_200_000_000_000));

/// How long PID 1 settles before it is watched; what the slowest peer gets.
const OWN_WARM_UP: Duration = Duration::from_secs(15);

/// How long a clock may take to be right at first. chronyd slews what is under a second.
const RIGHT_WITHIN: Duration = Duration::from_secs(90);

/// A guest with the program that keeps its clock.
#[derive(Debug)]
pub struct Guest {
    /// What the table calls it.
    pub title: &'static str,
    /// The program's version.
    pub version: String,
    /// What it boots.
    pub boot: Boot,
    /// The hashes of what it is booted from.
    pub evidence: Evidence,
    /// The program; none is PID 1 itself.
    pub peer: Option<&'static Peer>,
    /// Where the program comes from.
    pub packages: Vec<Package>,
}

/// What is measured of every guest, and on what.
#[derive(Debug)]
pub struct Measuring {
    pub host: Host,
    pub size: VmSpec,
    pub plan: Plan,
    /// How long a clock is watched after a fault.
    pub recovery: Duration,
    /// How long it is watched undisturbed, if it is.
    pub steady: Option<Duration>,
    /// Boots with a wrong RTC.
    pub boots: u32,
}

impl Measuring {
    /// Measures one guest; what can't be measured goes to `missing`.
    ///
    /// # Errors
    ///
    /// Our own guest does not even start: then no other would.
    pub fn run(&self, guest: &Guest, missing: &mut Vec<MissingPeer>) -> Result<PeerRun> {
        let step = progress::step(format!("{}: the guest boots", guest.title));
        let mut gap = |reason: String| {
            progress::note(format!("{}: not run: {reason}", guest.title));
            // The guest's console has just been shown.
            let line = reason.lines().next().unwrap_or_default();
            missing.push(MissingPeer {
                peer: guest.title.to_owned(),
                reason: line.to_owned(),
            });
        };
        let outcome = self.faults(guest, &step)?;
        if let Some(error) = outcome.error {
            gap(format!("faults: {error}"));
        }
        let mut run = PeerRun {
            packages: guest.packages.clone(),
            settings: guest.peer.map(Peer::settings).unwrap_or_default(),
            ..PeerRun::new(guest.title, &guest.version, outcome.report)
        };
        let keeper = keeper(guest, self.recovery);
        if let Some(span) = self.steady {
            step.update(format!("{}: undisturbed for {span:?}", guest.title));
            let mut boot = || self.boot(guest, Rtc::HostUtc);
            match peer::steady(&mut boot, &keeper, span, &mut run.report) {
                Ok(Ok(state)) => run.steady = Some(state),
                Ok(Err(why)) => gap(format!("steady state: {why}")),
                Err(error) => gap(format!("steady state: {error}")),
            }
        }
        for number in 1..=self.boots {
            step.update(format!("{}: boot {number}/{}", guest.title, self.boots));
            let mut boot = || self.boot(guest, WRONG_RTC);
            let why = match peer::first_read(&mut boot, &keeper, &mut run.report) {
                Ok(Ok(read)) => {
                    run.boots.push(read);
                    continue;
                }
                Ok(Err(why)) => why.to_string(),
                Err(error) => error.to_string(),
            };
            let done = number - 1;
            gap(format!("boots, after {done} of {}: {why}", self.boots));
            break;
        }
        step.vanish();
        Ok(run)
    }

    fn faults(&self, guest: &Guest, step: &Step) -> Result<Outcome> {
        let decision = &self.host.decision;
        let mut tell = |progress: Progress<'_>| tell(step, guest.title, &progress);
        let mut boot = || self.boot(guest, Rtc::HostUtc);
        if guest.peer.is_none() && !self.plan.faults.is_empty() {
            let mut machine = boot()?;
            return Ok(experiment::run(
                &mut machine,
                &self.plan,
                decision,
                &mut tell,
            ));
        }
        let keeper = keeper(guest, self.recovery);
        Ok(peer::run(
            &mut boot, &keeper, &self.plan, decision, &mut tell,
        ))
    }

    fn boot(&self, guest: &Guest, rtc: Rtc) -> Result<Machine, MachineError> {
        Machine::start(
            &self.host.qemu,
            Config {
                name: "bench".to_owned(),
                accelerator: self.host.decision.accelerator,
                vcpus: self.size.vcpus,
                memory_mib: self.size.memory_mib,
                boot: guest.boot.clone(),
                rtc,
                time_channel: true,
                test_port: true,
                devices: Vec::new(),
            },
        )
    }
}

fn keeper(guest: &Guest, recovery: Duration) -> Keeper {
    Keeper {
        name: guest.title.to_owned(),
        service: guest.peer.map(|peer| peer.service().to_owned()),
        warm_up: guest.peer.map_or(OWN_WARM_UP, |peer| peer.warm_up),
        right_within: RIGHT_WITHIN,
        recovery,
    }
}

fn tell(step: &Step, title: &str, progress: &Progress<'_>) {
    match progress {
        Progress::Sampled {
            fault,
            number,
            of,
            sample,
        } => {
            let took = sample.recovered_ns.map_or_else(
                || "did not recover".to_owned(),
                |took| format!("recovered in {took}"),
            );
            step.update(format!("{title}: {fault} {number}/{of}: {took}"));
        }
        Progress::Skipped { fault, reason } => {
            progress::note(format!("{title}: {fault}: not run: {reason}"));
        }
        Progress::Booting(_) | Progress::Synced(_) => {}
    }
}
