//! `bench`: what `recover` measures, with other programs in PID 1's place, side by side.

mod measure;
mod results;

use std::cell::OnceCell;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;
use noonmark_builder::image::{self, BuildRequest, Variant};
use noonmark_builder::peer::{PEERS, Peer};
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::workspace::Workspace;
use noonmark_contract::units::Nanos;
use noonmark_lab::fault::{Fault, FaultSet, Plan};
use noonmark_lab::report::bench::{Bench, Package};

use crate::guest;
use crate::nested::{self, Errand, Stop};
use crate::options::{MachineOptions, SpecFile, duration, same_machine, span};
use crate::outputs::Outputs;

use self::measure::{BenchPlan, Guest};
use self::results::Results;

/// What `--fault` is where it is not given.
const FAULTS: [&str; 2] = ["date:2023-03-01T12:30", "step:+500ms"];

/// Our own name in the table.
const OURS: &str = "noonmark";

/// Compares PID 1 with chronyd and phc2sys: the same kernel, machine, faults and observer.
///
/// Each peer runs in a guest of its own, in which PID 1 leaves the clock alone. Their packages are
/// fetched and unpacked like the kernel; nothing is installed. A peer follows the host's clock as
/// /dev/ptp0, so that on a host without ptp_kvm only noonmark itself is measured: its faults, and its
/// steady state against the host's clock.
///
/// Ctrl-C ends it, and prints and writes what was measured until then.
///
/// Exit status 0 if all that was asked for was measured, whatever came of it, 1 if something was
/// not; what was not is listed with the reason, and the rest is measured all the same.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: cargo xtask bench --peer phc2sys --count 5 --steady 60s --html bench.html"
)]
pub struct BenchCommand {
    /// A peer to compare with; may be given several times, or several with commas between them
    /// [default: all of them]. noonmark itself is always measured: named alone, it is compared with
    /// nobody.
    #[arg(long = "peer", value_name = "NAME", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(
              [OURS].into_iter().chain(PEERS.iter().map(|peer| peer.name))))]
    peers: Vec<String>,
    /// A fault to do, or a family of them, as in `recover` [default: date:2023-03-01T12:30,
    /// step:+500ms].
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<FaultSet>,
    /// Samples of each fault; 0 leaves the faults out.
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(..=100_000))]
    count: u32,
    /// Do the faults so often, each time in a guest booted for it, and one keeper of the clock after
    /// the other each time: what the machine is like meanwhile then concerns all of them alike.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// How long a clock is watched after a fault; one that is not right by then has not recovered.
    #[arg(long, value_name = "SPAN", default_value = "15s", value_parser = deadline)]
    deadline: Nanos,
    /// Watch each clock undisturbed for this long as well: its error, and what keeping it costs.
    #[arg(long, value_name = "SPAN", value_parser = steady)]
    steady: Option<Nanos>,
    /// Boot each guest this often with an RTC of 2001, and tell what a program that was started at
    /// boot read on the clock.
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(..=10_000))]
    boots: u32,
    #[command(flatten)]
    outputs: Outputs,
    /// Of the random pauses between the samples; the same seed gives the same pauses.
    #[arg(long = "seed", value_name = "N", default_value_t = 1)]
    random_seed: u64,
    #[command(flatten)]
    spec: SpecFile,
    #[command(flatten)]
    machine: MachineOptions,
}

impl BenchCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        self.outputs.check()?;
        let bench = Bench {
            deadline_ns: self.deadline,
            ..Bench::new(Vec::new(), Vec::new())
        };
        let results = Results::open(bench, self.outputs.clone());
        let (bench_plan, guests) = self.prepare(workspace, &results)?;
        if bench_plan.host.is_elsewhere() {
            // What is measured there is told there, also on Ctrl-C.
            drop(results);
            return nested::run(&self.errand(workspace, &bench_plan, &guests));
        }
        bench_plan.run(&guests, &results)?;
        let whole = results.close()?;
        Ok(if whole {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The same in an emulated host.
    fn errand<'a>(
        &self,
        workspace: &'a Workspace,
        bench_plan: &'a BenchPlan,
        guests: &[Guest],
    ) -> Errand<'a> {
        let spec_file = self.spec.path(workspace);
        let memory_mib = bench_plan.size.memory_mib;
        let errand = Errand::new(workspace, &bench_plan.host, "bench", memory_mib, spec_file)
            .outputs(self.outputs.files())
            .stop(Stop::Asked);
        let boots = guests.iter().map(|guest| &guest.boot);
        boots.fold(errand, Errand::guest)
    }

    /// Builds every guest before the first one is booted: a build beside a guest would be measured
    /// with it. A peer that can't be had is missing.
    fn prepare(&self, workspace: &Workspace, results: &Results) -> Result<(BenchPlan, Vec<Guest>)> {
        let _lock = StateLock::acquire(workspace)?;
        let host = self.machine.host(workspace)?;
        let spec_file = self.spec.path(workspace);
        let build = |variant: Variant| {
            image::build(
                workspace,
                &BuildRequest::new(workspace, &spec_file, variant),
            )
        };
        let ours = build(Variant::Test)?;
        let mut guests = vec![Guest {
            title: OURS,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: guest::direct_boot(&ours)?,
            evidence: guest::evidence(&ours)?,
            peer: None,
            packages: Vec::new(),
        }];
        let size = self.machine.size(&ours.spec.vm);
        let options = same_machine(&self.spec, &self.machine, &host, &size);
        let bench_plan = BenchPlan {
            size,
            host,
            plan: Plan {
                count: self.count,
                seed: self.random_seed,
                options,
                ..Plan::new(self.chosen_faults()?)
            },
            recovery: duration(self.deadline),
            steady: self.steady.map(duration),
            boots: self.boots,
            rounds: self.rounds,
            qemu_hash: OnceCell::new(),
        };
        for peer in self.chosen_peers() {
            match build(Variant::Peer(peer)) {
                Ok(image) => guests.push(Guest {
                    title: peer.title,
                    version: version(peer, &image.packages),
                    boot: guest::direct_boot(&image)?,
                    evidence: guest::evidence(&image)?,
                    peer: Some(peer),
                    packages: image.packages.into_iter().map(package).collect(),
                }),
                Err(error) => results.not_measured(peer.title, &format!("{error:#}")),
            }
        }
        Ok((bench_plan, guests))
    }

    fn chosen_faults(&self) -> Result<Vec<Fault>> {
        if self.count == 0 {
            return Ok(Vec::new());
        }
        if !self.faults.is_empty() {
            return Ok(self.faults.iter().flat_map(|set| set.0.clone()).collect());
        }
        let faults = FAULTS.iter().map(|name| name.parse());
        Ok(faults.collect::<Result<_, _>>()?)
    }

    fn chosen_peers(&self) -> impl Iterator<Item = &'static Peer> {
        let named = |peer: &&Peer| self.peers.iter().any(|name| name == peer.name);
        PEERS
            .iter()
            .filter(move |peer| self.peers.is_empty() || named(peer))
    }
}

/// The version of the package that has the program.
fn version(peer: &Peer, packages: &[noonmark_image::deb::PackageId]) -> String {
    let own = packages.iter().find(|id| id.package == peer.package);
    own.map_or_else(String::new, |id| format!("{} {}", id.package, id.version))
}

fn package(id: noonmark_image::deb::PackageId) -> Package {
    Package {
        name: id.package,
        version: id.version,
        sha256: id.sha256.to_string(),
    }
}

/// The guest's observer is busy for as long, so a minute is the longest.
fn deadline(text: &str) -> Result<Nanos, String> {
    within(text, Nanos::from_millis(100), Nanos::from_secs(60))
}

fn steady(text: &str) -> Result<Nanos, String> {
    within(text, Nanos::from_secs(1), Nanos::from_secs(86_400))
}

fn within(text: &str, shortest: Nanos, longest: Nanos) -> Result<Nanos, String> {
    let parsed = span(text)?;
    if (shortest..=longest).contains(&parsed) {
        return Ok(parsed);
    }
    Err(format!("expected {shortest} to {longest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_faults_have_names_that_parse() {
        for name in FAULTS {
            assert!(name.parse::<Fault>().is_ok(), "{name}");
        }
    }

    #[test]
    fn a_deadline_is_one_that_the_observer_takes() {
        assert_eq!(deadline("15s"), Ok(Nanos::from_secs(15)));
        assert!(deadline("61s").is_err() && deadline("1ms").is_err());
        assert!(steady("10m").is_ok() && steady("2d").is_err());
    }
}
