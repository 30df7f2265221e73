//! What `bench --json` writes: the same faults in the same guest, once with PID 1 keeping the
//! clock and once with each peer.

use noonmark_contract::units::Nanos;
use serde::{Deserialize, Serialize};

use crate::stats::median;

use super::Report;
use super::steady::SteadyState;

/// The format version of a bench.
pub const VERSION: u32 = 1;

/// Several runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// Format version: 1.
    pub v: u32,
    /// What kind of file it is.
    pub kind: BenchKind,
    /// How long a clock was watched after each fault; 0 where nobody told.
    #[serde(default)]
    pub deadline_ns: Nanos,
    /// One for each peer, in the order in which they were run; noonmark's own is the first.
    pub runs: Vec<PeerRun>,
    /// Peers that were asked for and not run.
    #[serde(default)]
    pub missing: Vec<MissingPeer>,
}

/// The mark by which a bench is told from a single report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchKind {
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
    /// What was measured of the faults.
    pub report: Report,
    /// The packages that the program came from.
    #[serde(default)]
    pub packages: Vec<Package>,
    /// Its settings: the arguments, and the configuration file where it has one.
    #[serde(default)]
    pub settings: String,
    /// The clock when nobody disturbs it; none where that was not asked for.
    #[serde(default)]
    pub steady: Option<SteadyState>,
    /// Boots with an RTC that was years off, one after the other.
    #[serde(default)]
    pub boots: Vec<FirstRead>,
}

/// A package whose program was part of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its file.
    pub sha256: String,
}

/// What a program that was started at boot read on the guest's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstRead {
    /// Truth minus what its first read said.
    pub error_ns: Nanos,
    /// When it read (`CLOCK_BOOTTIME`).
    pub at_ns: Nanos,
    /// From when on the clock was seen right (`CLOCK_BOOTTIME`); none where that took too long.
    pub right_at_ns: Option<Nanos>,
}

/// A peer that was not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPeer {
    /// The program and its setting.
    pub peer: String,
    /// Why, in words.
    pub reason: String,
}

impl PeerRun {
    /// A run of faults, with nothing else told yet.
    #[must_use]
    pub fn new(peer: &str, version: &str, report: Report) -> Self {
        Self {
            peer: peer.to_owned(),
            version: version.to_owned(),
            report,
            packages: Vec::new(),
            settings: String::new(),
            steady: None,
            boots: Vec::new(),
        }
    }

    /// The figures of its boots; none without any.
    #[must_use]
    pub fn first_reads(&self) -> Option<FirstReads> {
        let tolerance = self.report.tolerance_ns;
        let errors = self.boots.iter().map(|boot| boot.error_ns.abs());
        let right = |boot: &FirstRead| Some((boot.right_at_ns? - boot.at_ns).max(Nanos::ZERO));
        let after = self.boots.iter().filter_map(right);
        Some(FirstReads {
            boots: self.boots.len(),
            wrong: errors.clone().filter(|error| *error > tolerance).count(),
            largest: errors.max()?,
            median: median(after.clone()),
            longest: after.max(),
        })
    }
}

/// Figures over some boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstReads {
    /// How many.
    pub boots: usize,
    /// In how many the first read was off by more than the tolerance.
    pub wrong: usize,
    /// The largest error of a first read.
    pub largest: Nanos,
    /// How long after its first read the clock was right: the median of the boots in which it was.
    pub median: Option<Nanos>,
    /// And the longest.
    pub longest: Option<Nanos>,
}

impl Bench {
    /// A bench of these runs.
    #[must_use]
    pub fn new(runs: Vec<PeerRun>, missing: Vec<MissingPeer>) -> Self {
        Self {
            v: VERSION,
            kind: BenchKind::Bench,
            deadline_ns: Nanos::ZERO,
            runs,
            missing,
        }
    }
}
