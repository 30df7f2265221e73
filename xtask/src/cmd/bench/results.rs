//! What a bench has measured so far, kept so that a run which is ended by Ctrl-C leaves it: a bench
//! can take an hour.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use noonmark_builder::progress;
use noonmark_lab::report::bench::{Bench, MissingPeer, PeerRun};
use noonmark_lab::report::document::Document;
use noonmark_qemu::signals::{self, CleanupGuard};

use crate::outputs::Outputs;

/// The bench so far. Until it is closed, a signal prints and writes it.
#[derive(Debug)]
pub struct Results {
    bench: Arc<Mutex<Bench>>,
    outputs: Outputs,
    on_signal: CleanupGuard,
}

impl Results {
    /// Begins with an empty bench.
    pub fn open(bench: Bench, outputs: Outputs) -> Self {
        let bench = Arc::new(Mutex::new(bench));
        let (shared, files) = (Arc::clone(&bench), outputs.clone());
        let end = move || {
            let bench = bench_of(&shared).clone();
            if bench.runs.is_empty() {
                return;
            }
            progress::clear();
            eprintln!("ended early; what was measured until then:");
            if let Err(error) = show(&bench, &files) {
                eprintln!("{error:#}");
            }
        };
        Self {
            bench,
            outputs,
            on_signal: signals::register(end),
        }
    }

    /// Takes in a run, in the place of what was known of the same one.
    pub fn put(&self, run: &PeerRun) {
        let mut bench = bench_of(&self.bench);
        match bench.runs.iter_mut().find(|known| known.peer == run.peer) {
            Some(known) => known.clone_from(run),
            None => bench.runs.push(run.clone()),
        }
    }

    /// Says and lists what was not measured.
    pub fn not_measured(&self, peer: &str, reason: &str) {
        progress::note(format!("{peer}: not run: {reason}"));
        // The further lines are a console or a package manager's output, which has just been shown.
        let line = reason.lines().next().unwrap_or_default();
        bench_of(&self.bench).missing.push(MissingPeer {
            peer: peer.to_owned(),
            reason: line.to_owned(),
        });
    }

    /// Prints the bench and writes its files; gives whether all of it was measured.
    ///
    /// # Errors
    ///
    /// A file can't be written.
    pub fn close(self) -> Result<bool> {
        drop(self.on_signal);
        let bench = bench_of(&self.bench);
        show(&bench, &self.outputs)?;
        let whole = |run: &PeerRun| run.report.not_run.is_empty();
        Ok(bench.missing.is_empty() && bench.runs.iter().all(whole))
    }
}

fn show(bench: &Bench, outputs: &Outputs) -> Result<()> {
    print!("{}", noonmark_lab::text::bench(bench));
    outputs.write(&Document::Bench(bench.clone()))
}

/// A panic elsewhere leaves the bench as it was between two changes.
fn bench_of(bench: &Mutex<Bench>) -> MutexGuard<'_, Bench> {
    bench.lock().unwrap_or_else(PoisonError::into_inner)
}
