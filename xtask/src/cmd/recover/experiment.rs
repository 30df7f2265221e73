//! A guest that is ready to be booted, once or again and again, for a run of faults each time.

use anyhow::Result;
use jiff::Timestamp;
use noonmark_image::spec::VmSpec;
use noonmark_lab::fault::Plan;
use noonmark_lab::report::Report;
use noonmark_lab::report::evidence::Evidence;
use noonmark_lab::run::{self, ExperimentError, NicGuest, Progress};
use noonmark_qemu::{Boot, Config, Machine};

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
}

impl Experiment {
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
        let decision = &self.host.decision;
        let mut show = |progress: Progress<'_>| reporter.show(&progress);
        let outcome = run::run(&mut machine, plan, &self.nic_guest, decision, &mut show);
        let evidence = Evidence {
            measured_at: Some(began),
            ..self.evidence.clone()
        };
        let report = Report {
            evidence,
            ..outcome.report
        };
        Ok((report, outcome.error))
    }
}
