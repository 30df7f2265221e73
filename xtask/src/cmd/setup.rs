//! `setup`: brings in what the other commands need, or only tells.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use noonmark_builder::packages::{self, Pins, Request};
use noonmark_builder::prerequisites::{Prerequisite, Presence};
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::workspace::Workspace;
use noonmark_builder::{kernel, stub};
use noonmark_image::lock::LockedPackage;
use noonmark_image::spec::{Description, KernelSource, Spec};
use noonmark_qemu::firmware;

use crate::options::SpecFile;

/// Brings in what noonmark needs: QEMU, Rust's library for the guest, the guest's kernel.
///
/// Only what is missing is installed, and nothing is ever removed or downgraded; the kernel and the
/// EFI stub are downloaded, not installed. Every other command does this by itself for what it
/// needs.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask setup --check")]
pub struct SetupCommand {
    /// Only tell what is there and what is missing; exit status 1 if something is.
    #[arg(long)]
    check: bool,
    /// A QEMU to use instead of the distribution's qemu-system-x86_64.
    #[arg(long, env = "NOONMARK_QEMU", value_name = "PATH")]
    qemu: Option<PathBuf>,
    #[command(flatten)]
    spec: SpecFile,
}

impl SetupCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let mut prerequisites = vec![Prerequisite::Qemu(self.qemu.clone())];
        if workspace.bundle().is_none() {
            prerequisites.insert(0, Prerequisite::GuestTarget);
            prerequisites.push(Prerequisite::TestTools);
        }
        let _lock = if self.check {
            None
        } else {
            Some(StateLock::acquire(workspace)?)
        };
        let mut complete = true;
        let mut print = |name: &str, presence: Presence| match presence {
            Presence::Present(what) => println!("{name:<28} {what}"),
            Presence::Missing(way) => {
                complete = false;
                println!("{name:<28} missing: {way}");
            }
        };
        for prerequisite in prerequisites {
            if !self.check {
                prerequisite.ensure(workspace)?;
            }
            print(prerequisite.name(), prerequisite.find(workspace)?);
        }
        let spec_file = self.spec.path(workspace);
        let description = Description::read(&spec_file)?;
        let pins = Pins::beside(&description, false)?;
        print("guest kernel", self.kernel(workspace, &description, &pins)?);
        print("EFI stub", self.package(workspace, stub::REQUEST, &pins)?);
        let firmware = firmware::find(None, &workspace.firmware())?;
        print(
            "UEFI firmware",
            Presence::Present(firmware.code.display().to_string()),
        );
        Ok(if complete {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn kernel(
        &self,
        workspace: &Workspace,
        description: &Description,
        pins: &Pins,
    ) -> Result<Presence> {
        match Spec::of(description)?.kernel.source {
            KernelSource::Files { image, .. } => Ok(Presence::Present(image.display().to_string())),
            KernelSource::Package { name, suite } => {
                let request = kernel::request(workspace, &name, suite.as_deref())?;
                self.package(workspace, request, pins)
            }
        }
    }

    /// A package that is downloaded, not installed.
    fn package(
        &self,
        workspace: &Workspace,
        request: Request<'_>,
        pins: &Pins,
    ) -> Result<Presence> {
        if !self.check {
            packages::fetch(workspace, request, pins)?;
        }
        let cached = packages::cached(workspace, request, pins);
        Ok(cached.map_or_else(
            || Presence::Missing(format!("cargo xtask setup downloads {}", request.name)),
            |packages| Presence::Present(names(&packages)),
        ))
    }
}

fn names(packages: &[LockedPackage]) -> String {
    let name = |package: &LockedPackage| format!("{} {}", package.id.package, package.id.version);
    packages.iter().map(name).collect::<Vec<_>>().join(", ")
}
