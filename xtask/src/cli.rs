//! The commands and what they are called; each command's own options stand in its file under `cmd`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use noonmark_builder::workspace::Workspace;

use crate::{cmd, nested};

/// Builds noonmark's guest images, boots them, breaks their clocks, and measures how they recover.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// Every command installs what it needs by itself.
#[derive(Debug, Subcommand)]
pub enum Command {
    Recover(cmd::recover::RecoverCommand),
    Bench(cmd::bench::BenchCommand),
    Report(cmd::report::ReportCommand),
    Image(cmd::image::ImageCommand),
    Run(cmd::run::RunCommand),
    Example(cmd::example::ExampleCommand),
    Status(cmd::status::StatusCommand),
    TimeServer(cmd::time_server::TimeServerCommand),
    Lock(cmd::lock::LockCommand),
    Reproduce(cmd::reproduce::ReproduceCommand),
    Seed(cmd::seed::SeedCommand),
    Test(cmd::test::TestCommand),
    Setup(cmd::setup::SetupCommand),
    /// Takes orders in the emulated KVM host.
    #[command(hide = true)]
    KvmHostAgent,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Whatever kept it from doing its work; a missed gate is an exit code, not an error.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Self::KvmHostAgent = self {
            // There is no workspace yet where it runs.
            return nested::agent::serve().map(|()| ExitCode::SUCCESS);
        }
        let workspace = Workspace::find()?;
        match self {
            Self::Image(command) => command.run(&workspace),
            Self::Recover(command) => command.run(&workspace),
            Self::Bench(command) => command.run(&workspace),
            Self::Report(command) => command.run(),
            Self::Run(command) => command.run(&workspace),
            Self::Example(command) => command.run(&workspace),
            Self::Status(command) => command.run(),
            Self::TimeServer(command) => command.run(),
            Self::Lock(command) => command.run(&workspace),
            Self::Reproduce(command) => command.run(&workspace),
            Self::Seed(command) => command.run(),
            Self::Test(command) => command.run(&workspace),
            Self::Setup(command) => command.run(&workspace),
            Self::KvmHostAgent => unreachable!("it has been served above"),
        }
    }
}
