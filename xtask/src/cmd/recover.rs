//! `recover`: the main job. Boots a test image, disturbs its clock, measures how it gets right again.

mod experiment;
mod reporter;
mod soak;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use noonmark_builder::image::{self, BuildRequest, Variant};
use noonmark_builder::progress;
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::workspace::Workspace;
use noonmark_contract::units::Nanos;
use noonmark_lab::fault::{Fault, FaultSet, Plan, Preset};
use noonmark_lab::report::Report;
use noonmark_lab::report::document::Document;
use noonmark_lab::report::gate::Verdict;
use noonmark_lab::report::soak::Soak;
use noonmark_lab::run::NicGuest;
use noonmark_lab::text;

use crate::guest;
use crate::nested::{self, Errand};
use crate::options::{MachineOptions, SpecFile, duration, same_machine, span};
use crate::outputs::{self, Outputs};

use self::experiment::Experiment;

/// Boots the guest, scrambles its clock, and measures how long it takes to be right again.
///
/// Builds the image first where it is stale, and installs what is missing. Exit status 1 if a
/// sample did not recover, took longer than --max-recovery, missed a limit of --limits, or if the
/// guest's clock was off from the host's before a fault or after the recovery.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: cargo xtask recover --fault date:2023-03-01T12:30 --fault step:-1h \
                        --count 20 --json report.json --html report.html"
)]
pub struct RecoverCommand {
    /// A fault to do; may be given several times. `date:2023-03-01T12:30` sets the guest's clock as
    /// `date 030112302023` does, `step:+500ms` shifts it. Others are skew:+500ppm, skew:tick-10%,
    /// pause:5s[+kick], restore:10s[+devices][+kick], migrate, source-loss:channel|phc,
    /// liar:hour|drift|garbage|late|silent, storm:1000 and combined. A family's name alone (step,
    /// skew, pause, ...) means all of its usual sizes [default: that date, -1h, +1h, +500ms,
    /// -50ms].
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<FaultSet>,
    /// Which faults to do where none is named: quick takes a few steps, full every fault there is,
    /// soak draws from all of them (or from those named) for as long as --duration says.
    #[arg(long, value_name = "quick|full|soak", default_value_t = Preset::Quick)]
    preset: Preset,
    /// How long a soak goes on, with the rounds of earlier calls that --resume finds [default: 1h].
    #[arg(long, value_name = "SPAN", value_parser = span)]
    duration: Option<Nanos>,
    /// The file in which a soak writes down each finished round; where it exists, the soak goes on
    /// after the last of them.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Samples of each fault [default: 10; in each round of a soak 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
    /// Do all of it in so many guests, booted one after the other, as one report. Two reports are
    /// compared boot by boot, because samples of one boot are not independent of each other.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    boots: u32,
    /// The gate: the longest time to recover that passes.
    #[arg(long, value_name = "SPAN", default_value = "50ms", value_parser = span)]
    max_recovery: Nanos,
    /// Limits for each fault or family, in TOML: p50, p99, max_recovery, error, unrecovered under
    /// [default], [family.NAME] or [fault."NAME"]; the most specific counts. `error` is that of the
    /// guest's clock against the host's, with its bound, before each fault and after each recovery
    /// [default: 1us where the guest reads the host's clock by ptp_kvm, else 5ms].
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
    /// Of everything random: the pauses between the samples, what storms and combined faults do. The
    /// same seed gives the same sequence again.
    #[arg(long = "seed", value_name = "N", default_value_t = 1)]
    random_seed: u64,
    /// Of each fault only its Nth sample, as it was among all the others with the same seed; 0 is
    /// the first fault after boot.
    #[arg(long, value_name = "N")]
    only: Option<u32>,
    #[command(flatten)]
    spec: SpecFile,
    #[command(flatten)]
    machine: MachineOptions,
}

/// How long a soak goes on where `--duration` is not given.
const SOAK: Duration = Duration::from_secs(3600);

impl RecoverCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let soak = self.preset == Preset::Soak;
        if !soak && (self.duration.is_some() || self.resume.is_some()) {
            bail!("--duration and --resume are for --preset soak");
        }
        if soak && self.boots != 1 {
            bail!("--boots is for other presets: each round of a soak has a guest of its own");
        }
        if soak && self.only.is_some() {
            bail!("--only takes one sample again; leave --preset soak out of the command");
        }
        self.outputs.check()?;
        let limits = self.limits.as_deref().map(outputs::limits).transpose()?;
        let limits = limits.unwrap_or_default();
        let plan = Plan {
            error_limit: limits.strictest_error(),
            ..self.plan()
        };
        for name in limits.unused(&plan.faults) {
            progress::note(format!(
                "limits: {name} is not among the faults of this run"
            ));
        }
        let begun = soak.then(|| self.begin_soak(&plan)).transpose()?;
        // A soak that is resumed keeps the faults that it began with.
        let faults = match &begun {
            Some((_, soak)) => soak.faults(),
            None => plan.faults.clone(),
        };
        let experiment = self.prepare(workspace, &faults)?;
        if experiment.host.is_elsewhere() {
            drop(begun);
            return nested::run(&self.errand(workspace, &experiment));
        }
        let plan = Plan {
            options: same_machine(
                &self.spec,
                &self.machine,
                &experiment.host,
                &experiment.size,
            ),
            ..plan
        };
        let (report, error) = match begun {
            Some((log, soak)) => {
                let duration = self.duration.map_or(SOAK, duration);
                (soak::run(&experiment, soak, log, duration, &plan)?, None)
            }
            None => experiment.run_in(self.boots, &plan)?,
        };
        let report = Report { limits, ..report };
        let verdict = report.verdict();
        print!("{}", text::report(&report));
        self.outputs.write(&Document::Report(Box::new(report)))?;
        if let Some(error) = error {
            return Err(error).context("the experiment did not get to its end");
        }
        Ok(match verdict {
            Verdict::Passed { .. } => ExitCode::SUCCESS,
            Verdict::Failed { .. } => ExitCode::FAILURE,
        })
    }

    fn plan(&self) -> Plan {
        let faults = if self.faults.is_empty() {
            self.preset.faults()
        } else {
            self.faults.iter().flat_map(|set| set.0.clone()).collect()
        };
        let count = if self.preset == Preset::Soak { 3 } else { 10 };
        Plan {
            count: self.count.unwrap_or(count),
            seed: self.random_seed,
            only: self.only,
            max_recovery: self.max_recovery,
            ..Plan::new(faults)
        }
    }

    fn begin_soak(&self, plan: &Plan) -> Result<(Option<soak::Log>, Soak)> {
        let new = Soak::new(&plan.faults, plan);
        Ok(match &self.resume {
            None => (None, new),
            Some(file) => {
                let (log, soak) = soak::Log::open(file, new)?;
                (Some(log), soak)
            }
        })
    }

    /// The same in an emulated host.
    fn errand<'a>(&self, workspace: &'a Workspace, experiment: &'a Experiment) -> Errand<'a> {
        let spec_file = self.spec.path(workspace);
        let memory_mib = experiment.size.memory_mib;
        let mut errand = Errand::new(
            workspace,
            &experiment.host,
            "recover",
            memory_mib,
            spec_file,
        )
        .outputs(self.outputs.files())
        .outputs(&self.resume);
        let guests = [Some(&experiment.boot), experiment.nic_guest.as_ref().ok()];
        for boot in guests.into_iter().flatten() {
            errand = errand.guest(boot);
        }
        for file in self.limits.iter().chain(&self.resume) {
            errand = errand.input(file);
        }
        errand
    }

    fn prepare(&self, workspace: &Workspace, faults: &[Fault]) -> Result<Experiment> {
        let (host, image) = self.machine.prepare(workspace, &self.spec, Variant::Test)?;
        let nic_guest = if faults.iter().any(|fault| fault.needs_nic()) {
            self.prepare_nic(workspace)
        } else {
            Err("none of the faults asked for needs it".to_owned())
        };
        Ok(Experiment {
            nic_guest,
            size: self.machine.size(&image.spec.vm),
            boot: guest::direct_boot(&image)?,
            evidence: guest::evidence(&image)?,
            qemu_hash: OnceCell::new(),
            host,
        })
    }

    /// The guest for faults of a NIC's PHC. That there is none keeps the other faults from nothing.
    fn prepare_nic(&self, workspace: &Workspace) -> NicGuest {
        let spec_file = self.spec.path(workspace);
        let request = BuildRequest::new(workspace, &spec_file, Variant::Nic);
        StateLock::acquire(workspace)
            .and_then(|_lock| image::build(workspace, &request))
            .and_then(|image| guest::direct_boot(&image))
            .map_err(|error| format!("there is no guest with a driver for a NIC's PHC: {error:#}"))
    }
}
