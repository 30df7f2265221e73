//! `test`: everything that must hold, one step after the other, and a summary.

mod licences;

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use noonmark_builder::packaged;
use noonmark_builder::prerequisites::{self, Prerequisite};
use noonmark_builder::progress;
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::workspace::Workspace;
use noonmark_qemu::accel::Choice;
use serde::Deserialize;
use xshell::{Shell, cmd};

/// Names the file to which tests append what they did not run.
const NOT_RUN_FILE: &str = "NOONMARK_NOT_RUN";

/// Names this program, so that tests which use the command line need not build it.
const XTASK_PROGRAM: &str = "NOONMARK_XTASK";

/// Names what runs guests.
const ACCEL: &str = "NOONMARK_ACCEL";

/// Where chronyd is in its package.
const CHRONYD: &str = "usr/sbin/chronyd";

/// Names the folder with Debian's chronyd and its libraries, for tests that need one.
const CHRONY: &str = "NOONMARK_CHRONY";

/// Names the folder with Debian's cloud-init and the Python modules that it needs.
const CLOUD_INIT: &str = "NOONMARK_CLOUD_INIT";

/// Runs all checks and tests; exit status 1 if one fails.
///
/// `cargo test` alone runs what needs no image and no virtual machine: the steps tidy and unit.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask test --only unit")]
pub struct TestCommand {
    /// Leave out the tests that boot virtual machines.
    #[arg(long)]
    no_vm: bool,
    /// What runs guests; auto takes KVM where it is sure to work, and where it is not, a KVM host that is
    /// emulated for the tests of ptp_kvm and plain emulation for the others.
    #[arg(
        long,
        value_name = "auto|kvm|nested|tcg",
        default_value = "auto",
        conflicts_with = "no_vm"
    )]
    accel: Choice,
    /// Only this step; may be given several times.
    #[arg(long, value_enum, value_name = "STEP")]
    only: Vec<Step>,
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// rustfmt would change nothing.
    Fmt,
    /// clippy has no warning.
    Clippy,
    /// Every dependency has a permissive licence.
    Licences,
    /// The source tree keeps its own rules.
    Tidy,
    /// Unit tests, property tests, and the clock's simulator.
    Unit,
    /// The command line with wrong input.
    Cli,
    /// Images and seed disks, read by programs of others.
    Disk,
    /// Guests in virtual machines.
    Vm,
}

/// How a step ended.
struct Ended {
    step: Step,
    passed: bool,
    took: Duration,
}

/// A line of the file that [`NOT_RUN_FILE`] names.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct NotRun {
    test: String,
    reason: String,
}

impl TestCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let steps: Vec<Step> = Step::value_variants()
            .iter()
            .copied()
            .filter(|step| self.only.is_empty() || self.only.contains(step))
            .filter(|step| !self.no_vm || *step != Step::Vm)
            .collect();
        if steps.is_empty() {
            bail!("--no-vm leaves nothing of --only vm");
        }
        {
            let _lock = StateLock::acquire(workspace)?;
            prerequisites::ensure(workspace, &[Prerequisite::TestTools])?;
            if steps.contains(&Step::Unit) || steps.contains(&Step::Disk) {
                // Images and the installed program have the guest's programs in them.
                prerequisites::ensure(workspace, &[Prerequisite::GuestTarget])?;
            }
            if steps.contains(&Step::Disk) {
                // Tests whose programs are missing are listed as not run.
                if let Err(error) = prerequisites::ensure(workspace, &[Prerequisite::DiskTools]) {
                    progress::note(format!("{error:#}"));
                }
                let folder = unpacked(workspace, "cloud-init");
                if let Err(error) = packaged::unpack_python(workspace, "cloud-init", &folder) {
                    progress::note(format!("{error:#}"));
                }
            }
            if steps.contains(&Step::Vm) {
                // The distribution's QEMU is always needed: the tests run on plain emulation as well.
                let named = env::var_os("NOONMARK_QEMU").map(PathBuf::from);
                let needs = [
                    Prerequisite::GuestTarget,
                    Prerequisite::Qemu(None),
                    Prerequisite::Qemu(named),
                ];
                prerequisites::ensure(workspace, &needs)?;
                // Tests whose programs are missing are listed as not run.
                let folder = unpacked(workspace, "chrony");
                if let Err(error) = packaged::unpack(workspace, "chrony", CHRONYD, &folder) {
                    progress::note(format!("{error:#}"));
                }
            }
        }
        let not_run = workspace.state().join("not-run.jsonl");
        remove(&not_run)?;
        let mut ended = Vec::new();
        for step in steps {
            println!("== {}: {}", step.name(), step.claim());
            let since = Instant::now();
            let passed = step.run(workspace, &not_run, self.accel)?;
            ended.push(Ended {
                step,
                passed,
                took: since.elapsed(),
            });
        }
        let skipped = read_not_run(&not_run)?;
        print!("{}", summary(&ended, &skipped, self.no_vm));
        Ok(if ended.iter().all(|ended| ended.passed) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Step {
    /// What `--only` calls it.
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn claim(self) -> &'static str {
        match self {
            Self::Fmt => "rustfmt would change nothing",
            Self::Clippy => "clippy has no warning",
            Self::Licences => "every dependency has a permissive licence",
            Self::Tidy => "the source tree keeps its own rules",
            Self::Unit => "unit tests, property tests, and the clock's simulator",
            Self::Cli => "the command line with wrong input",
            Self::Disk => "images and seed disks, read by programs of others",
            Self::Vm => "guests in virtual machines",
        }
    }

    /// Runs it, its output going where this program's goes; true where it passed.
    fn run(self, workspace: &Workspace, not_run: &Path, accel: Choice) -> Result<bool> {
        let shell = Shell::new().context("cannot tell the current folder")?;
        shell.change_dir(workspace.root());
        let this = env::current_exe().context("cannot tell where this program is")?;
        shell.set_var(XTASK_PROGRAM, this);
        shell.set_var(NOT_RUN_FILE, not_run);
        shell.set_var(ACCEL, accel.to_string());
        shell.set_var(CHRONY, unpacked(workspace, "chrony"));
        shell.set_var(CLOUD_INIT, unpacked(workspace, "cloud-init"));
        let crossing = |name: &str| {
            cmd!(
                shell,
                "cargo test --locked --quiet --package noonmark-tests --test {name}"
            )
        };
        let command = match self {
            Self::Fmt => cmd!(shell, "cargo fmt --all --check"),
            Self::Clippy => cmd!(
                shell,
                "cargo clippy --locked --quiet --workspace --all-targets -- -D warnings"
            ),
            Self::Licences => return Ok(report(licences::check(workspace))),
            Self::Tidy => cmd!(shell, "cargo test --locked --quiet --package noonmark-tidy"),
            Self::Unit => cmd!(
                shell,
                "cargo test --locked --quiet --workspace --exclude noonmark-tests
                 --exclude noonmark-tidy --no-fail-fast"
            ),
            Self::Cli => crossing("cli"),
            Self::Disk => crossing("disk"),
            Self::Vm => crossing("vm"),
        };
        Ok(report(command.quiet().run().map_err(Into::into)))
    }
}

/// Where a package for tests is unpacked: [`CHRONY`], [`CLOUD_INIT`].
fn unpacked(workspace: &Workspace, package: &str) -> PathBuf {
    workspace.state().join("tests").join(package)
}

/// A failure is printed at once, and again in the summary.
fn report(outcome: Result<()>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) => {
            eprintln!("error: {error:#}");
            false
        }
    }
}

fn summary(ended: &[Ended], skipped: &[NotRun], no_vm: bool) -> String {
    let mut lines = vec!["== summary".to_owned()];
    lines.extend(ended.iter().map(|ended| {
        let verdict = if ended.passed { "passed" } else { "FAILED" };
        let took = ended.took.as_secs_f64();
        format!("{:<9} {verdict} ({took:.1} s)", ended.step.name())
    }));
    if no_vm {
        lines.push("not run: vm: left out by --no-vm".to_owned());
    }
    lines.extend(
        skipped
            .iter()
            .map(|skipped| format!("not run: {}: {}", skipped.test, skipped.reason)),
    );
    lines.join("\n") + "\n"
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// What the tests said they did not run; nothing where none wrote the file.
fn read_not_run(file: &Path) -> Result<Vec<NotRun>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    text.lines()
        .map(|line| {
            serde_json::from_str(line)
                .with_context(|| format!("{}: `{line}` is no entry", file.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_lists_each_step_and_everything_that_was_not_run() {
        let ended = [(Step::Fmt, true), (Step::Vm, false)].map(|(step, passed)| Ended {
            step,
            passed,
            took: Duration::from_millis(1500),
        });
        let skipped = [NotRun {
            test: "recovers_by_ptp_kvm".to_owned(),
            reason: "needs ptp_kvm".to_owned(),
        }];
        assert_eq!(
            summary(&ended, &skipped, true),
            "== summary\n\
             fmt       passed (1.5 s)\n\
             vm        FAILED (1.5 s)\n\
             not run: vm: left out by --no-vm\n\
             not run: recovers_by_ptp_kvm: needs ptp_kvm\n"
        );
    }
}
