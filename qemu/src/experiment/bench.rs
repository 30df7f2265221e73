//! What `bench --json` writes: the same faults in the same guest, once with PID 1 keeping the
//! clock and once with each peer.

use serde::{Deserialize, Serialize};

use super::report::Report;

/// The format version of a bench.
pub const VERSION: u32 = 1;

/// Several runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// Format version: 1.
    pub v: u32,
    /// What kind of file it is.
    pub kind: Kind,
    /// One for each peer, in the order in which they were run; noonmark's own is the first.
    pub runs: Vec<PeerRun>,
    /// Peers that were asked for and not run.
    #[serde(default)]
    pub missing: Vec<MissingPeer>,
}

/// The mark by which a bench is told from a single report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A bench.
    Bench,
}

/// The experiment with one program that keeps the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerRun {
    /// The program and its setting, e.g. `noonmark` or `chronyd poll 1 makestep 0.1 -1`.
    pub peer: String,
    /// The program's version.
    pub version: String,
    /// What was measured.
    pub report: Report,
}

/// A peer that was not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPeer {
    /// The program and its setting.
    pub peer: String,
    /// Why, in words.
    pub reason: String,
}

impl Bench {
    /// A bench of these runs.
    #[must_use]
    pub fn new(runs: Vec<PeerRun>, missing: Vec<MissingPeer>) -> Self {
        Self {
            v: VERSION,
            kind: Kind::Bench,
            runs,
            missing,
        }
    }
}
