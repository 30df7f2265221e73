//! `setup`: brings in what the other commands need, or only tells.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::host::lock;
use crate::host::needs::{Finding, Need};
use crate::workspace::Workspace;

/// Installs what noonmark needs on this machine: QEMU, Rust's library for the guest.
///
/// Only what is missing is installed, and nothing is ever removed or downgraded. Every other
/// command does this by itself for what it needs.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask setup --check")]
pub struct Setup {
    /// Only tell what is there and what is missing; exit status 1 if something is.
    #[arg(long)]
    check: bool,
    /// A QEMU to use instead of the distribution's qemu-system-x86_64.
    #[arg(long, env = "NOONMARK_QEMU", value_name = "PATH")]
    qemu: Option<PathBuf>,
}

impl Setup {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let needs = [Need::GuestTarget, Need::Qemu(self.qemu), Need::TestTools];
        let _lock = if self.check {
            None
        } else {
            Some(lock::acquire(workspace)?)
        };
        let mut complete = true;
        for need in needs {
            if !self.check {
                need.meet(workspace)?;
            }
            match need.look(workspace)? {
                Finding::Found(what) => println!("{:<28} {what}", need.name()),
                Finding::Missing(way) => {
                    complete = false;
                    println!("{:<28} missing: {way}", need.name());
                }
            }
        }
        Ok(if complete {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
