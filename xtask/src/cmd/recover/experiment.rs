//! A guest that is ready to be booted, once or again and again, for a run of faults each time.

use std::cell::OnceCell;

use anyhow::Result;
use jiff::Timestamp;
use noonmark_builder::progress;
use noonmark_image::spec::VmSpec;
use noonmark_lab::fault::Plan;
use noonmark_lab::report::Report;
use noonmark_lab::report::evidence::Evidence;
use noonmark_lab::report::merge::merged;
use noonmark_lab::run::{self, ExperimentError, NicGuest, Progress};
use noonmark_qemu::{Boot, Config, Machine};

use crate::guest;
use crate::options::Host;

use super::reporter::Reporter;

/// The guest, and what its reports say of it.
#[derive(Debug)]
pub struct Experiment {
    /// What runs it.
    pub host: Host,
    /// Its processors and memory.
    pub size: VmSpec,
    /// What it boots.
    pub boot: Boot,
    /// The guest for faults of a NIC's PHC, or why there is none.
    pub nic_guest: NicGuest,
    /// The hashes of what takes part.
    pub evidence: Evidence,
    /// The hash of the QEMU that runs, once one has.
    pub qemu_hash: OnceCell<Option<String>>,
}

impl Experiment {
    /// The same in one guest after the other, as one report: with a seed each, counted on from the
    /// plan's. The first that does not get to its end is the last.
    ///
    /// # Errors
    ///
    /// No guest starts.
    pub fn run_in(&self, boots: u32, plan: &Plan) -> Result<(Report, Option<ExperimentError>)> {
        let (mut total, mut error) = self.run(plan)?;
        for number in 1..boots {
            if error.is_some() {
                break;
            }
            progress::note(format!("boot {} of {boots}", number + 1));
            let plan = Plan {
                seed: plan.seed.wrapping_add(u64::from(number)),
                ..plan.clone()
            };
            let (report, ended) = self.run(&plan)?;
            let seed = total.seed;
            total = merged([&total, &report]).unwrap_or(report);
            total.seed = seed;
            error = ended;
        }
        Ok((total, error))
    }

    /// Boots the guest and does what is planned. What was measured is also there where it did not
    /// get to its end.
    ///
    /// # Errors
    ///
    /// No guest starts.
    pub fn run(&self, plan: &Plan) -> Result<(Report, Option<ExperimentError>)> {
        let mut reporter = Reporter::new(plan);
        let mut machine = Machine::start(
            &self.host.qemu,
            Config {
                test_port: true,
                ..self.host.machine("recover", &self.size, self.boot.clone())
            },
        )?;
        let began = Timestamp::now();
        let program = guest::program_of(machine.pid());
        let decision = &self.host.decision;
        let mut show = |progress: Progress<'_>| reporter.show(&progress);
        let outcome = run::run(&mut machine, plan, &self.nic_guest, decision, &mut show);
        let evidence = Evidence {
            measured_at: Some(began),
            // Hashing takes a processor: not while something is measured.
            qemu_sha256: self
                .qemu_hash
                .get_or_init(|| guest::program_hash(program.as_deref()))
                .clone(),
            ..self.evidence.clone()
        };
        let report = Report {
            evidence,
            ..outcome.report
        };
        Ok((report, outcome.error))
    }
}
