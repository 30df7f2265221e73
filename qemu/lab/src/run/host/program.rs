//! A program of the emulated host that keeps its clock: started, and ended with what it printed where
//! it ended by itself.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use noonmark_qemu::console::Console;
use noonmark_qemu::process::Process;

/// How often it is looked whether it still runs.
const LOOK: Duration = Duration::from_millis(100);

/// A running program; it is ended when dropped.
pub(super) struct Program {
    name: &'static str,
    process: Process,
    said: [Console; 2],
}

impl Program {
    /// Starts the program at `path` by these words, of which a configuration file of this text and
    /// name is one.
    pub(super) fn start(
        path: &'static str,
        words: &[&str],
        (file, text): (&str, &str),
    ) -> Result<Self, String> {
        let name = path.rsplit('/').next().unwrap_or(path);
        if !Path::new(path).exists() {
            return Err(format!("the emulated host has no {name}"));
        }
        let problem = |what: String| format!("{name} does not start: {what}");
        fs::write(file, text).map_err(|error| problem(format!("{file}: {error}")))?;
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let (process, output) =
            Process::spawn(Path::new(path), &words).map_err(|error| problem(error.to_string()))?;
        let console = |captured: std::io::Result<Console>| {
            captured.map_err(|error| problem(error.to_string()))
        };
        Ok(Self {
            name,
            process,
            said: [
                console(Console::capture(output.stdout, None))?,
                console(Console::capture(output.stderr, None))?,
            ],
        })
    }

    /// Lets it run so long.
    pub(super) fn run_for(&self, span: Duration) -> Result<(), String> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.check()?;
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Fails where it has ended.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.process.exit_status() {
            None => Ok(()),
            Some(status) => Err(format!("{}: {status}: {}", self.name, self.last_words())),
        }
    }

    /// The last of what it printed.
    pub(super) fn last_words(&self) -> String {
        let lines = self.said.iter().flat_map(|console| console.tail(5));
        lines.collect::<Vec<_>>().join(" | ")
    }
}
