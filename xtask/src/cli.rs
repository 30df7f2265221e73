//! The commands and what they are called; each command's own options stand in its file under `cmd`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use noonmark_builder::bundle::Bundle;
use noonmark_builder::workspace::Workspace;
use noonmark_qemu::called;

use crate::{cmd, nested};

/// Builds noonmark's guest images, boots them, breaks their clocks, and measures how they recover.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
pub struct Checkout {
    #[command(subcommand)]
    pub command: CheckoutCommand,
}

/// Builds guest images whose clock is right, boots them, breaks their clocks, and measures how they recover.
///
/// A project is a folder with a guest.toml; commands work in it and in every folder below it. What they
/// make goes to target/noonmark there, what they download to the user's cache folder.
#[derive(Debug, Parser)]
#[command(
    name = "noonmark",
    version,
    max_term_width = 100,
    after_help = "Example: noonmark init && noonmark recover"
)]
pub struct Installed {
    #[command(subcommand)]
    pub command: InstalledCommand,
}

/// Every command installs what it needs by itself.
#[derive(Debug, Subcommand)]
pub enum CheckoutCommand {
    #[command(flatten)]
    Common(Box<Command>),
    Example(cmd::example::ExampleCommand),
    Reproduce(cmd::reproduce::ReproduceCommand),
    Test(cmd::test::TestCommand),
}

#[derive(Debug, Subcommand)]
pub enum InstalledCommand {
    Init(cmd::init::InitCommand),
    #[command(flatten)]
    Common(Box<Command>),
}

/// What there is in a checkout and installed.
#[derive(Debug, Subcommand)]
pub enum Command {
    Recover(cmd::recover::RecoverCommand),
    Bench(cmd::bench::BenchCommand),
    Report(cmd::report::ReportCommand),
    Image(cmd::image::ImageCommand),
    Run(Box<cmd::run::RunCommand>),
    Status(cmd::status::StatusCommand),
    TimeServer(cmd::time_server::TimeServerCommand),
    Lock(cmd::lock::LockCommand),
    Seed(cmd::seed::SeedCommand),
    Setup(cmd::setup::SetupCommand),
    /// Takes orders in the emulated KVM host.
    #[command(hide = true)]
    KvmHostAgent,
}

impl CheckoutCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Whatever kept it from doing its work; a missed gate is an exit code, not an error.
    pub fn run(self) -> Result<ExitCode> {
        match self {
            Self::Common(command) => command.run(Workspace::find),
            Self::Example(command) => command.run(&Workspace::find()?),
            Self::Reproduce(command) => command.run(&Workspace::find()?),
            Self::Test(command) => command.run(&Workspace::find()?),
        }
    }
}

impl Installed {
    /// Parses this program's arguments, as [`Parser::parse`] does. Help and version are those of the
    /// installed program.
    pub fn parse_with(bundle: &Bundle) -> Self {
        let version = format!("{}\n{bundle}", env!("CARGO_PKG_VERSION"));
        let command = renamed(Self::command()).version(&*version.leak());
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

/// The commands' help with the name that they have here.
fn renamed(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|mut command| {
        let renamed =
            |text: &clap::builder::StyledStr| called::renamed(&text.to_string()).into_owned();
        if let Some(help) = command.get_after_help().map(renamed) {
            command = command.after_help(help);
        }
        if let Some(about) = command.get_long_about().map(renamed) {
            command = command.long_about(about);
        }
        command.mut_args(|argument| match argument.get_help().map(renamed) {
            Some(help) => argument.help(help),
            None => argument,
        })
    })
}

impl InstalledCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// As [`CheckoutCommand::run`].
    pub fn run(self, bundle: &'static Bundle) -> Result<ExitCode> {
        match self {
            Self::Init(command) => command.run(),
            Self::Common(command) => command.run(|| Workspace::project(bundle)),
        }
    }
}

impl Command {
    fn run(self, workspace: impl Fn() -> Result<Workspace>) -> Result<ExitCode> {
        match self {
            Self::Image(command) => command.run(&workspace()?),
            Self::Recover(command) => command.run(&workspace()?),
            Self::Bench(command) => command.run(&workspace()?),
            Self::Report(command) => command.run(),
            Self::Run(command) => command.run(&workspace()?),
            Self::Status(command) => command.run(),
            Self::TimeServer(command) => command.run(),
            Self::Lock(command) => command.run(&workspace()?),
            Self::Seed(command) => command.run(),
            Self::Setup(command) => command.run(&workspace()?),
            // There is no workspace yet where it runs.
            Self::KvmHostAgent => nested::agent::serve().map(|()| ExitCode::SUCCESS),
        }
    }
}
