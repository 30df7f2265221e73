//! `report`: makes the table and the page again from a run's JSON, or compares two runs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use noonmark_lab::report::compare::{Comparison, Criteria};
use noonmark_lab::report::document::Document;
use noonmark_lab::report::gate::Verdict;
use noonmark_lab::text;

use crate::outputs::{self, Rendered};

/// Shows what `recover --json` or `bench --json` wrote, or compares two such files.
///
/// One file: prints its table, and makes its page or JUnit XML anew; exit status 1 where a limit of
/// --limits is missed. Two files: says what got slower from the first to the second. Of each fault the
/// boots' medians are compared by a rank test (Mann-Whitney, corrected by Holm for asking about every
/// fault), so that noise is not taken for a change, nor what one boot happened to be like: take
/// several (`recover --boots`, `bench --rounds`).
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask report report.json --html report.html\n  \
                  cargo xtask report before.json after.json --fail-on-slower"
)]
pub struct ReportCommand {
    /// A report or bench; with a second one, the two are compared.
    #[arg(required = true, num_args = 1..=2, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    rendered: Rendered,
    /// Hold the run to the limits of this TOML file instead of those that it was measured with.
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// Exit with status 1 where a fault got slower or no longer recovers, or where the second file
    /// lacks a fault, a peer or samples, so that nobody can tell.
    #[arg(long)]
    fail_on_slower: bool,
    /// The growth of the usual time, in per cent, from which it counts as slower.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, value_parser = percent)]
    min_growth: f64,
    /// The chance to take of calling noise a change.
    #[arg(long, value_name = "CHANCE", default_value_t = 0.01, value_parser = chance)]
    level: f64,
}

impl ReportCommand {
    pub fn run(self) -> Result<ExitCode> {
        match self.files.as_slice() {
            [before, after] => {
                if self.rendered.any() || self.limits.is_some() {
                    bail!("--html, --junit and --limits are for one file, and two were given");
                }
                let (before, after) = (outputs::document(before)?, outputs::document(after)?);
                Ok(self.compare(&before, &after))
            }
            [file] => {
                if self.fail_on_slower {
                    bail!("--fail-on-slower compares two files, and one was given");
                }
                let document = outputs::document(file)?;
                self.show(document)
                    .with_context(|| format!("{}", file.display()))
            }
            _ => bail!("expected one file, or two to compare"),
        }
    }

    fn compare(&self, before: &Document, after: &Document) -> ExitCode {
        let criteria = Criteria {
            level: self.level,
            growth: 1.0 + self.min_growth / 100.0,
        };
        let comparison = Comparison::of(before, after, criteria);
        print!("{}", text::comparison(&comparison));
        let worse = comparison.slower().next().is_some() || !comparison.lacking.is_empty();
        if self.fail_on_slower && worse {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    fn show(&self, mut document: Document) -> Result<ExitCode> {
        self.rendered.check()?;
        if let Some(file) = &self.limits {
            outputs::ours(&mut document)?.limits = outputs::limits(file)?;
        }
        match &document {
            Document::Report(report) => print!("{}", text::report(report)),
            Document::Bench(bench) => print!("{}", text::bench(bench)),
        }
        self.rendered.write(&document)?;
        let verdict = outputs::ours(&mut document)?.verdict();
        Ok(match verdict {
            Verdict::Failed { .. } if self.limits.is_some() => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        })
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let number = number.parse().ok();
    number
        .filter(|percent: &f64| (0.0..=10_000.0).contains(percent))
        .ok_or_else(|| "expected per cent from 0 to 10000, such as 10".to_owned())
}

fn chance(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    number
        .filter(|chance: &f64| *chance > 0.0 && *chance <= 0.5)
        .ok_or_else(|| "expected a chance above 0 and up to 0.5, such as 0.01".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_cent_and_chances_are_in_their_ranges() {
        assert_eq!(percent("10"), Ok(10.0));
        assert_eq!(percent("7.5%"), Ok(7.5));
        assert_eq!(chance("0.05"), Ok(0.05));
        for wrong in ["-1", "ten", "", "nan", "inf"] {
            assert!(percent(wrong).is_err(), "{wrong}");
            assert!(chance(wrong).is_err(), "{wrong}");
        }
        assert!(chance("0").is_err() && chance("1").is_err());
    }
}
