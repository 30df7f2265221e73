//! Boots a guest as often as a bench needs it, and measures what was asked for.

use std::cell::OnceCell;
use std::time::Duration;

use anyhow::Result;
use noonmark_builder::peer::Peer;
use noonmark_builder::progress::{self, Step};
use noonmark_contract::units::Utc;
use noonmark_image::spec::VmSpec;
use noonmark_lab::fault::Plan;
use noonmark_lab::peer;
use noonmark_lab::report::bench::{Package, PeerRun};
use noonmark_lab::report::evidence::Evidence;
use noonmark_lab::report::merge::merged;
use noonmark_lab::report::steady::SteadyState;
use noonmark_lab::run::{self, Outcome, Progress};
use noonmark_qemu::{Boot, Config, Machine, MachineError, Rtc};

use crate::guest;
use crate::options::Host;
use crate::status::text;

use super::results::Results;

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
pub struct BenchPlan {
    pub host: Host,
    pub size: VmSpec,
    pub plan: Plan,
    /// How long a clock is watched after a fault.
    pub recovery: Duration,
    /// How long it is watched undisturbed, if it is.
    pub steady: Option<Duration>,
    /// Boots with a wrong RTC.
    pub boots: u32,
    /// How often the faults are done.
    pub rounds: u32,
    /// The hash of the QEMU that runs, once one has.
    pub qemu_hash: OnceCell<Option<String>>,
}

impl BenchPlan {
    /// Measures all guests, in turn for each round of faults, and hands what was measured to the
    /// results part by part.
    ///
    /// # Errors
    ///
    /// Our own guest does not even start: then no other would.
    pub fn run(&self, guests: &[Guest], results: &Results) -> Result<()> {
        let mut runs: Vec<Option<PeerRun>> = vec![None; guests.len()];
        for round in 0..self.rounds {
            for (guest, run) in guests.iter().zip(&mut runs) {
                self.round(guest, round, run, results)?;
            }
        }
        for (guest, run) in guests.iter().zip(runs) {
            let Some(mut run) = run else { continue };
            let step = progress::step(format!("{}: the guest boots", guest.title));
            if let Some(span) = self.steady {
                self.watch(guest, span, &mut run, results, &step);
            }
            self.first_reads(guest, &mut run, results, &step);
            step.vanish();
        }
        Ok(())
    }

    /// One round of faults in one guest.
    fn round(
        &self,
        guest: &Guest,
        round: u32,
        run: &mut Option<PeerRun>,
        results: &Results,
    ) -> Result<()> {
        let title = guest.title;
        let step = progress::step(format!("{title}: the guest boots"));
        let plan = Plan {
            seed: self.plan.seed.wrapping_add(u64::from(round)),
            ..self.plan.clone()
        };
        let outcome = self.faults(guest, &plan, &step)?;
        step.vanish();
        if let Some(error) = outcome.error {
            results.not_measured(title, &format!("faults: {error}"));
        }
        let mut report = outcome.report;
        report.evidence = guest.evidence.clone();
        report.evidence.qemu_sha256 = self.qemu_hash.get().cloned().flatten();
        let total = match &run {
            Some(before) => merged([&before.report, &report]).unwrap_or(report),
            None => report,
        };
        let run = run.get_or_insert_with(|| PeerRun {
            packages: guest.packages.clone(),
            settings: guest.peer.map(Peer::settings).unwrap_or_default(),
            ..PeerRun::new(title, &guest.version, total.clone())
        });
        run.report = total;
        run.report.seed = self.plan.seed;
        results.put(run);
        Ok(())
    }

    /// Watches the clock undisturbed.
    fn watch(
        &self,
        guest: &Guest,
        span: Duration,
        run: &mut PeerRun,
        results: &Results,
        step: &Step,
    ) {
        let title = guest.title;
        step.update(format!(
            "{title}: the guest boots, to be watched undisturbed"
        ));
        let keeper = keeper(guest, self.recovery);
        let mut boot = || self.boot(guest, Rtc::HostUtc);
        let mut so_far = run.clone();
        let mut show = |state: &SteadyState| {
            step.update(format!("{title}: undisturbed {}", figures(state, span)));
            so_far.steady = Some(state.clone());
            results.put(&so_far);
        };
        let watched = peer::steady(&mut boot, &keeper, span, &mut run.report, &mut show);
        if let Some(state) = &watched.state {
            progress::note(format!("{title}: undisturbed {}", figures(state, span)));
        }
        run.steady = watched.state;
        results.put(run);
        if let Some(error) = watched.error {
            results.not_measured(title, &format!("steady state: {error}"));
        }
    }

    /// Boots with a wrong RTC, again and again.
    fn first_reads(&self, guest: &Guest, run: &mut PeerRun, results: &Results, step: &Step) {
        let keeper = keeper(guest, self.recovery);
        for number in 1..=self.boots {
            step.update(format!("{}: boot {number}/{}", guest.title, self.boots));
            let mut boot = || self.boot(guest, WRONG_RTC);
            match peer::first_read(&mut boot, &keeper, &mut run.report) {
                Ok(read) => run.boots.push(read),
                Err(error) => {
                    let done = number - 1;
                    let why = format!("boots, after {done} of {}: {error}", self.boots);
                    return results.not_measured(guest.title, &why);
                }
            }
            results.put(run);
        }
    }

    fn faults(&self, guest: &Guest, plan: &Plan, step: &Step) -> Result<Outcome> {
        let decision = &self.host.decision;
        let mut show = |progress: Progress<'_>| show(step, guest.title, &progress);
        let mut boot = || self.boot(guest, Rtc::HostUtc);
        if guest.peer.is_none() && !plan.faults.is_empty() {
            let mut machine = boot()?;
            return Ok(run::run(
                &mut machine,
                plan,
                &Err("a bench does nothing that needs it".to_owned()),
                decision,
                &mut show,
            ));
        }
        let keeper = keeper(guest, self.recovery);
        Ok(peer::run(&mut boot, &keeper, plan, decision, &mut show))
    }

    fn boot(&self, guest: &Guest, rtc: Rtc) -> Result<Machine, MachineError> {
        let machine = Machine::start(
            &self.host.qemu,
            Config {
                rtc,
                test_port: true,
                ..self.host.machine("bench", &self.size, guest.boot.clone())
            },
        )?;
        // Once, while the first guest boots, when nothing is measured yet.
        self.qemu_hash
            .get_or_init(|| guest::program_hash(guest::program_of(machine.pid()).as_deref()));
        Ok(machine)
    }
}

/// A steady state so far, in words.
fn figures(state: &SteadyState, span: Duration) -> String {
    let (watched, all) = (state.span_ns.as_secs_f64(), span.as_secs_f64());
    let max = state.max_ns;
    format!(
        "for {watched:.0} of {all:.0} s: RMS {:.1} ns, max {max}",
        state.rms_ns
    )
}

/// The program that keeps the guest's clock, as the lab runs it.
fn keeper(guest: &Guest, recovery: Duration) -> peer::Keeper {
    peer::Keeper {
        name: guest.title.to_owned(),
        service: guest.peer.map(|peer| peer.service().to_owned()),
        warm_up: guest.peer.map_or(OWN_WARM_UP, |peer| peer.warm_up),
        right_within: RIGHT_WITHIN,
        recovery,
    }
}

fn show(step: &Step, title: &str, progress: &Progress<'_>) {
    match progress {
        Progress::Sampled {
            fault,
            number,
            of,
            sample,
        } => {
            let took = text::recovery(sample);
            step.update(format!("{title}: {fault} {number}/{of}: {took}"));
        }
        Progress::Skipped { fault, reason } => {
            progress::note(format!("{title}: {fault}: not run: {reason}"));
        }
        Progress::Booting(_) | Progress::Synced(_) => {}
    }
}
