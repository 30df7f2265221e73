//! `cargo xtask`: noonmark's command line. This file only dispatches and prints the error.

mod cli;
mod cmd;
mod guest;
mod nested;
mod options;
mod outputs;
mod status;

use std::process::ExitCode;

use clap::Parser as _;

/// Exit status: 0 where all is well, 1 for an error or a missed gate, 2 for a usage error (clap's).
fn main() -> ExitCode {
    let command = cli::Cli::parse().command;
    let outcome = noonmark_qemu::signals::install()
        .map_err(anyhow::Error::from)
        .and_then(|()| command.run());
    match outcome {
        Ok(code) => code,
        Err(error) => {
            noonmark_builder::progress::clear();
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
