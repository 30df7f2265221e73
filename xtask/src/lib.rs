//! noonmark's command line, as `cargo xtask` and as the installed `noonmark`. This file only
//! dispatches and prints the error.

mod cli;
mod cmd;
mod guest;
mod nested;
mod options;
mod outputs;
mod status;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use noonmark_builder::bundle::Bundle;
use noonmark_qemu::{called, signals};

/// `cargo xtask`, which compiles the guest's programs from the checkout that it is run in.
///
/// Exit status: 0 where all is well, 1 for an error or a missed gate, 2 for a usage error (clap's).
pub fn in_checkout() -> ExitCode {
    let command = cli::Checkout::parse().command;
    ended(
        signals::install()
            .map_err(Into::into)
            .and_then(|()| command.run()),
    )
}

/// `noonmark`, which has the guest's programs with it, and works on the project that it is run in.
///
/// Exit status as [`in_checkout`].
pub fn installed(bundle: &'static [u8]) -> ExitCode {
    called::set("noonmark");
    ended(Bundle::parse(bundle).and_then(|bundle| {
        let bundle: &'static Bundle = Box::leak(Box::new(bundle));
        let command = cli::Installed::parse_with(bundle).command;
        signals::install()?;
        command.run(bundle)
    }))
}

fn ended(outcome: Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        noonmark_builder::progress::clear();
        eprintln!("{}", called::renamed(&format!("error: {}", told(&error))));
        ExitCode::FAILURE
    })
}

/// What went wrong and what caused it. A cause that is told already, as by an error that quotes it in the middle
/// of its own sentence, isn't told again.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_that_is_quoted_is_not_told_again() {
        let full = Err::<(), _>(std::io::Error::from_raw_os_error(28));
        let quoting = full.context("no space: No space left on device (os error 28); free some");
        let error = quoting.context("no image").unwrap_err();
        assert_eq!(
            told(&error),
            "no image: no space: No space left on device (os error 28); free some"
        );
        let error = anyhow::anyhow!("the file is empty").context("guest.toml");
        assert_eq!(told(&error), "guest.toml: the file is empty");
    }
}
