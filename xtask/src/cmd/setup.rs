//! `setup`: brings in what the other commands need, or only tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use noonmark_builder::host::lock;
use noonmark_builder::host::needs::{Finding, Need};
use noonmark_builder::packages::{self, Pins, Wanted};
use noonmark_builder::workspace::Workspace;
use noonmark_builder::{kernel, stub};
use noonmark_image::lock::LockedPackage;
use noonmark_image::spec::{KernelSource, Spec};
use noonmark_qemu::firmware;

use crate::cmd::options::SpecFile;

/// Brings in what noonmark needs: QEMU, Rust's library for the guest, the guest's kernel.
///
/// Only what is missing is installed, and nothing is ever removed or downgraded; the kernel and the
/// EFI stub are downloaded, not installed. Every other command does this by itself for what it
/// needs.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask setup --check")]
pub struct Setup {
    /// Only tell what is there and what is missing; exit status 1 if something is.
    #[arg(long)]
    check: bool,
    /// A QEMU to use instead of the distribution's qemu-system-x86_64.
    #[arg(long, env = "NOONMARK_QEMU", value_name = "PATH")]
    qemu: Option<PathBuf>,
    #[command(flatten)]
    spec: SpecFile,
}

impl Setup {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let needs = [
            Need::GuestTarget,
            Need::Qemu(self.qemu.clone()),
            Need::TestTools,
        ];
        let _lock = if self.check {
            None
        } else {
            Some(lock::acquire(workspace)?)
        };
        let mut complete = true;
        let mut tell = |name: &str, finding: Finding| match finding {
            Finding::Found(what) => println!("{name:<28} {what}"),
            Finding::Missing(way) => {
                complete = false;
                println!("{name:<28} missing: {way}");
            }
        };
        for need in needs {
            if !self.check {
                need.meet(workspace)?;
            }
            tell(need.name(), need.look(workspace)?);
        }
        let spec_file = self.spec.path(workspace);
        let pins = Pins::beside(&spec_file, false)?;
        tell("guest kernel", self.kernel(workspace, &spec_file, &pins)?);
        tell("EFI stub", self.package(workspace, stub::WANTED, &pins)?);
        let firmware = firmware::find(None, &workspace.firmware())?;
        tell(
            "UEFI firmware",
            Finding::Found(firmware.code.display().to_string()),
        );
        Ok(if complete {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn kernel(&self, workspace: &Workspace, spec_file: &Path, pins: &Pins) -> Result<Finding> {
        let text = fs::read_to_string(spec_file)
            .with_context(|| format!("cannot read {}", spec_file.display()))?;
        match Spec::parse(&text, spec_file)?.kernel.source {
            KernelSource::Files { image, .. } => Ok(Finding::Found(image.display().to_string())),
            KernelSource::Package { name, suite } => {
                let wanted = kernel::wanted(workspace, &name, suite.as_deref())?;
                self.package(workspace, wanted, pins)
            }
        }
    }

    /// A package that is downloaded, not installed.
    fn package(&self, workspace: &Workspace, wanted: Wanted<'_>, pins: &Pins) -> Result<Finding> {
        if !self.check {
            packages::fetch(workspace, wanted, pins)?;
        }
        let cached = packages::cached(workspace, wanted, pins);
        Ok(cached.map_or_else(
            || Finding::Missing(format!("cargo xtask setup downloads {}", wanted.name)),
            |packages| Finding::Found(names(&packages)),
        ))
    }
}

fn names(packages: &[LockedPackage]) -> String {
    let name = |package: &LockedPackage| format!("{} {}", package.id.package, package.id.version);
    packages.iter().map(name).collect::<Vec<_>>().join(", ")
}
