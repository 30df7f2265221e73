//! `recover`: the main job. Boots a test image, disturbs its clock, measures how it gets right again.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::SignedDuration;
use noonmark_qemu::experiment::document::Document;
use noonmark_qemu::experiment::fault::{Fault, FaultSet};
use noonmark_qemu::experiment::gate::Verdict;
use noonmark_qemu::experiment::plan::Plan;
use noonmark_qemu::experiment::report::Report;
use noonmark_qemu::experiment::{self, Progress, table};
use noonmark_qemu::vm::config::{Config, Rtc};
use noonmark_qemu::vm::machine::Machine;
use noonmark_sync::record::Record;
use noonmark_sync::units::Nanos;

use crate::build::image::Kind;
use crate::cmd::evidence;
use crate::cmd::options::{MachineOptions, SpecFile, direct_boot};
use crate::cmd::outputs::{self, Outputs};
use crate::progress::{self, Step};
use crate::status::text;
use crate::workspace::Workspace;

/// Boots the guest, scrambles its clock, and measures how long it takes to be right again.
///
/// Builds the image first where it is stale, and installs what is missing. Exit status 1 if a
/// sample did not recover, took longer than --max-recovery, or missed a limit of --limits.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: cargo xtask recover --fault date:2023-03-01T12:30 --fault step:-1h \
                        --count 20 --json report.json --html report.html"
)]
pub struct RecoverCommand {
    /// A fault to do; may be given several times. `date:2023-03-01T12:30` sets the guest's clock as
    /// `date 030112302023` does, `step:+500ms` shifts it. Others are skew:+500ppm, skew:tick-10%,
    /// pause:5s[+kick], restore:10s[+devices][+kick], migrate, source-loss:channel,
    /// liar:hour|drift|garbage|late|silent, storm:1000 and combined. A family's name alone (step,
    /// skew, pause, ...) means all of its usual sizes [default: that date, -1h, +1h, +500ms,
    /// -50ms].
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<FaultSet>,
    /// Samples of each fault.
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// The gate: the longest time to recover that passes.
    #[arg(long, value_name = "SPAN", default_value = "50ms", value_parser = span)]
    max_recovery: Nanos,
    /// Limits for each fault or family, in TOML: p50, p99, max_recovery, residual, unrecovered under
    /// [default], [family.NAME] or [fault."NAME"]; the most specific counts.
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
    /// Of everything random: the pauses between the samples, what storms and combined faults do. The
    /// same seed gives the same sequence again.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Of each fault only its Nth sample, as it was among all the others with the same seed; 0 is
    /// the first fault after boot.
    #[arg(long, value_name = "N")]
    only: Option<u32>,
    #[command(flatten)]
    spec: SpecFile,
    #[command(flatten)]
    machine: MachineOptions,
}

impl RecoverCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        self.outputs.check()?;
        let limits = self.limits.as_deref().map(outputs::limits).transpose()?;
        let limits = limits.unwrap_or_default();
        let (host, image) = self.machine.prepare(workspace, &self.spec, Kind::Test)?;
        let size = self.machine.size(&image.spec.vm);
        let faults = if self.faults.is_empty() {
            Fault::defaults()
        } else {
            self.faults.into_iter().flat_map(|set| set.0).collect()
        };
        let plan = Plan {
            count: self.count,
            seed: self.seed,
            only: self.only,
            max_recovery: self.max_recovery,
            ..Plan::new(faults)
        };
        for name in limits.unused(&plan.faults) {
            progress::note(format!(
                "limits: {name} is not among the faults of this run"
            ));
        }
        let evidence = evidence::of_direct_boot(&host.qemu, &image)?;
        let step = progress::step("the guest boots");
        let mut machine = Machine::start(
            &host.qemu,
            Config {
                name: "recover".to_owned(),
                accelerator: host.decision.accelerator,
                vcpus: size.vcpus,
                memory_mib: size.memory_mib,
                boot: direct_boot(&image)?,
                rtc: Rtc::HostUtc,
                time_channel: true,
                test_port: true,
                devices: Vec::new(),
            },
        )?;
        let outcome = experiment::run(&mut machine, &plan, &host.decision, &mut |progress| {
            tell(&step, &progress);
        });
        step.vanish();
        drop(machine);
        let report = Report {
            evidence,
            limits,
            ..outcome.report
        };
        let verdict = report.verdict();
        print!("{}", table::render(&report));
        self.outputs.write(&Document::Report(Box::new(report)))?;
        if let Some(error) = outcome.error {
            return Err(error).context("the experiment did not get to its end");
        }
        Ok(match verdict {
            Verdict::Passed { .. } => ExitCode::SUCCESS,
            Verdict::Failed { .. } => ExitCode::FAILURE,
        })
    }
}

fn tell(step: &Step, progress: &Progress<'_>) {
    match progress {
        Progress::Booting(Record::Event(event)) => progress::note(text::event(&event.event)),
        Progress::Booting(Record::Status(_)) => {}
        Progress::Synced(status) => step.update(text::line(status, None)),
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
            step.update(format!("{fault} {number}/{of}: {took}"));
            if sample.recovered_ns.is_none() || !sample.violations.is_empty() {
                let why = std::iter::once(&took).chain(&sample.violations);
                let why: Vec<&str> = why.map(String::as_str).collect();
                progress::note(format!("{fault} {number}/{of}: {}", why.join("; ")));
                progress::note(format!("again: {}", sample.replay));
            }
        }
        Progress::Skipped { fault, reason } => {
            progress::note(format!("{fault}: not run: {reason}"))
        }
    }
}

/// A span of time on the command line: `50ms`, `1.5s`.
pub(super) fn span(text: &str) -> Result<Nanos, String> {
    let parsed: SignedDuration = text
        .parse()
        .map_err(|_| "expected a span of time such as 50ms or 1.5s".to_owned())?;
    i64::try_from(parsed.as_nanos())
        .ok()
        .filter(|nanos| *nanos > 0)
        .map(Nanos)
        .ok_or_else(|| "expected a span longer than nothing and shorter than 292 years".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_needs_a_unit_and_must_be_positive() {
        assert_eq!(span("50ms"), Ok(Nanos::from_millis(50)));
        assert_eq!(span("1.5s"), Ok(Nanos::from_millis(1500)));
        for wrong in ["50", "-50ms", "0s", "soon", "999999999999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
