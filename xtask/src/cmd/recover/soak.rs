//! `recover --preset soak`: round after round, each written down as soon as it is finished.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::SignedDuration;
use noonmark_builder::progress;
use noonmark_lab::fault::Plan;
use noonmark_lab::report::soak::{Round, Soak};
use noonmark_lab::report::{FaultReport, Report};
use serde::Serialize;

use super::experiment::Experiment;

/// So many rounds in a row may fail to get to their end before a soak gives up: then it is the
/// host or the image, and more of them tell nothing new.
const BROKEN_MAX: u32 = 3;

/// The file of a soak, open for the next line.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the file of a soak that was ended, or begins it with the settings of a new one.
    ///
    /// # Errors
    ///
    /// It can't be read or written, or is something else.
    pub fn open(path: &Path, new: Soak) -> Result<(Self, Soak)> {
        let named = || format!("--resume {}", path.display());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(named),
        };
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(path);
        let mut log = Self {
            path: path.to_owned(),
            file: file.with_context(named)?,
        };
        if text.is_empty() {
            log.write(&new.settings)?;
            return Ok((log, new));
        }
        let soak = Soak::parse(&text).with_context(named)?;
        // A line that was cut off when the soak ended is dropped; its round is done again.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        log.file.set_len(whole as u64).with_context(named)?;
        if soak.settings != new.settings {
            progress::note(format!(
                "{}: goes on with its own faults, count, seed and limit, not with those given now",
                path.display()
            ));
        }
        Ok((log, soak))
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line).context("a round has no JSON form")?;
        text.push(b'\n');
        self.file
            .write_all(&text)
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Does rounds until they took `duration` together, and returns all of them as one report. What the
/// soak's file does not say, such as how well errors are measured, is as `asked`.
///
/// # Errors
///
/// No guest starts, the file can't be written, or round after round does not get to its end.
pub fn run(
    experiment: &Experiment,
    mut soak: Soak,
    mut log: Option<Log>,
    duration: Duration,
    asked: &Plan,
) -> Result<Report> {
    let mut broken = 0;
    while took(&soak) < duration {
        let (number, plan) = soak.next();
        let plan = Plan {
            error_limit: asked.error_limit,
            options: asked.options.clone(),
            ..plan
        };
        let began = Instant::now();
        let (report, error) = experiment.run(&plan)?;
        let round = soak.add(Round {
            number,
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            report,
        });
        if let Some(log) = &mut log {
            log.write(round)?;
        }
        broken = if error.is_some() { broken + 1 } else { 0 };
        if let Some(error) = error {
            progress::note(format!("round {number}: {error}"));
            if broken == BROKEN_MAX {
                bail!("{BROKEN_MAX} rounds in a row did not get to their end; the last: {error}");
            }
        }
        print_totals(&soak, duration);
    }
    soak.total()
        .context("no round was done; give the soak a longer --duration")
}

fn took(soak: &Soak) -> Duration {
    Duration::from_millis(soak.took_ms())
}

/// The totals so far.
fn print_totals(soak: &Soak, duration: Duration) {
    let Some(total) = soak.total() else { return };
    let samples = || {
        total
            .faults
            .iter()
            .flat_map(|fault: &FaultReport| &fault.samples)
    };
    let lost = samples()
        .filter(|sample| sample.recovered_ns.is_none())
        .count();
    let longest = samples().filter_map(|sample| sample.recovered_ns).max();
    let left = duration.saturating_sub(took(soak));
    let left = SignedDuration::from_secs(i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
    progress::note(format!(
        "round {}: {} samples so far, {lost} did not recover, the longest recovery {}, {} things \
         failed, {left:#} left",
        soak.rounds.len(),
        samples().count(),
        longest.map_or_else(|| "-".to_owned(), |longest| longest.to_string()),
        total.failures().len(),
    ));
}

#[cfg(test)]
mod tests {
    use noonmark_lab::fault::Fault;

    use super::*;

    fn new() -> Soak {
        Soak::new(&Fault::defaults(), &Plan::new(Vec::new()))
    }

    #[test]
    fn a_log_that_was_cut_in_the_middle_of_a_line_goes_on_after_the_whole_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("soak.jsonl");
        let (log, _) = Log::open(&path, new()).unwrap();
        drop(log);
        let begun = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{begun}{{\"number\":1,\"took")).unwrap();
        let (mut log, soak) = Log::open(&path, new()).unwrap();
        assert_eq!(soak, new());
        log.write(&7).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{begun}7\n")
        );
    }

    #[test]
    fn a_file_of_something_else_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "dear diary\n").unwrap();
        let told = format!("{:#}", Log::open(&path, new()).unwrap_err());
        assert!(
            told.contains("notes.txt") && told.contains("no settings"),
            "{told}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear diary\n");
    }
}
