//! A soak: rounds of faults drawn at random, each in a guest of its own, for hours. Its file has a
//! line for each finished round, so that a soak that was ended goes on where it was.

use fastrand::Rng;
use noonmark_contract::units::Nanos;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::fault::Plan;

use super::Report;
use super::merge::merged;

/// The format version of a soak's file.
pub const VERSION: u32 = 1;

/// Faults of a round.
const FAULTS_PER_ROUND: usize = 6;

/// A soak's settings: the first line of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Format version: 1.
    pub v: u32,
    /// What kind of file it is.
    pub kind: SoakKind,
    /// What the faults are drawn from, by name.
    pub faults: Vec<String>,
    /// Samples of each fault in a round.
    pub count: u32,
    /// Of all that is random.
    pub seed: u64,
    /// The longest time to recover that passes.
    pub max_recovery_ns: Nanos,
}

/// The mark by which a soak's file is told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoakKind {
    /// A soak.
    Soak,
}

/// A finished round: a further line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// Counts from 1.
    pub number: u32,
    /// How long it took.
    pub took_ms: u64,
    /// What was measured; only failing samples have their traces.
    pub report: Report,
}

/// A soak so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Soak {
    /// Its settings.
    pub settings: Settings,
    /// Its finished rounds.
    pub rounds: Vec<Round>,
}

/// A file that is no soak's.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// The first line.
    #[error("line 1 has no settings of a soak: {0}; name a file that `--preset soak` wrote")]
    Settings(serde_json::Error),
    /// Another version wrote it.
    #[error("it is a soak of version {found}, and this program goes on with version {VERSION}")]
    Version {
        /// The version that it says.
        found: u32,
    },
    /// One of the faults that it draws from.
    #[error("line 1: {0}")]
    Fault(#[from] crate::fault::FaultError),
    /// A further line that is whole.
    #[error("line {line} is no round: {source}")]
    Round {
        /// Its number.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A round is missing, or there twice.
    #[error("line {line} is round {found} where round {expected} was expected")]
    Order {
        /// Its number.
        line: usize,
        /// The round that it says.
        found: u32,
        /// The round that comes next.
        expected: u32,
    },
}

impl Soak {
    /// A soak that has not begun.
    #[must_use]
    pub fn new(faults: &[Fault], plan: &Plan) -> Self {
        Self {
            settings: Settings {
                v: VERSION,
                kind: SoakKind::Soak,
                faults: faults.iter().map(Fault::to_string).collect(),
                count: plan.count,
                seed: plan.seed,
                max_recovery_ns: plan.max_recovery,
            },
            rounds: Vec::new(),
        }
    }

    /// Reads a soak's file. A last line without an end was being written when the soak was ended;
    /// it is left out.
    ///
    /// # Errors
    ///
    /// A line that is whole is wrong.
    pub fn parse(text: &str) -> Result<Self, SoakError> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = whole.lines().enumerate();
        let (_, first) = lines.next().unwrap_or_default();
        let settings: Settings = serde_json::from_str(first).map_err(SoakError::Settings)?;
        if settings.v != VERSION {
            return Err(SoakError::Version { found: settings.v });
        }
        for name in &settings.faults {
            name.parse::<Fault>()?;
        }
        let mut rounds: Vec<Round> = Vec::new();
        for (index, text) in lines {
            let line = index + 1;
            let round: Round =
                serde_json::from_str(text).map_err(|source| SoakError::Round { line, source })?;
            let expected = u32::try_from(rounds.len()).unwrap_or(u32::MAX) + 1;
            if round.number != expected {
                return Err(SoakError::Order {
                    line,
                    found: round.number,
                    expected,
                });
            }
            rounds.push(round);
        }
        Ok(Self { settings, rounds })
    }

    /// What its faults are drawn from.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let names = self.settings.faults.iter();
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// How long its rounds took together.
    #[must_use]
    pub fn took_ms(&self) -> u64 {
        self.rounds.iter().map(|round| round.took_ms).sum()
    }

    /// The number and the plan of the next round: the same for the same settings and number.
    #[must_use]
    pub fn next(&self) -> (u32, Plan) {
        let number = u32::try_from(self.rounds.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let settings = &self.settings;
        let mut random = Rng::with_seed(settings.seed ^ u64::from(number).rotate_left(32));
        let all = self.faults();
        let size = FAULTS_PER_ROUND.min(all.len());
        let plan = Plan {
            count: settings.count,
            seed: random.u64(..),
            max_recovery: settings.max_recovery_ns,
            ..Plan::new(random.choose_multiple(all, size))
        };
        (number, plan)
    }

    /// Adds a finished round, without the traces that nobody will look at.
    pub fn add(&mut self, mut round: Round) -> &Round {
        let limit = self.settings.max_recovery_ns;
        let first = round.report.first.iter_mut().map(|first| &mut first.sample);
        let others = round.report.faults.iter_mut().flat_map(|f| &mut f.samples);
        for sample in first.chain(others) {
            let good = sample.recovered_ns.is_some_and(|took| took <= limit);
            if good && sample.violations.is_empty() {
                sample.trace = Vec::new();
            }
        }
        let index = self.rounds.len();
        self.rounds.push(round);
        &self.rounds[index]
    }

    /// All rounds as one report: each fault with the samples of all rounds, the slowest first
    /// fault after a boot, and what was not run in any of them. None before the first round.
    #[must_use]
    pub fn total(&self) -> Option<Report> {
        let mut total = merged(self.rounds.iter().map(|round| &round.report))?;
        total.seed = self.settings.seed;
        Some(total)
    }
}

#[cfg(test)]
mod tests {
    use noonmark_contract::testport::TracePoint;

    use crate::fixture;

    use super::*;

    fn soak() -> Soak {
        let plan = Plan {
            seed: 7,
            count: 2,
            ..Plan::new(Vec::new())
        };
        Soak::new(&Fault::defaults(), &plan)
    }

    fn round(number: u32) -> Round {
        Round {
            number,
            took_ms: 1500,
            report: fixture::report(),
        }
    }

    fn file(soak: &Soak) -> String {
        let mut text = serde_json::to_string(&soak.settings).unwrap() + "\n";
        for round in &soak.rounds {
            text += &(serde_json::to_string(round).unwrap() + "\n");
        }
        text
    }

    #[test]
    fn a_soak_that_was_ended_goes_on_with_what_would_have_come() {
        let mut soak = soak();
        soak.add(round(1));
        soak.add(round(2));
        let whole = file(&soak);
        let resumed = Soak::parse(&whole).unwrap();
        assert_eq!(resumed, soak);
        assert_eq!(resumed.next(), soak.next());
        assert_eq!((resumed.next().0, resumed.took_ms()), (3, 3000));

        let cut = Soak::parse(&whole[..whole.len() - 20]).unwrap();
        assert_eq!(cut.rounds.len(), 1, "the half-written round is left out");
    }

    #[test]
    fn each_round_draws_faults_of_its_own() {
        let mut soak = soak();
        let (_, first) = soak.next();
        assert!(
            first
                .faults
                .iter()
                .all(|fault| Fault::defaults().contains(fault))
        );
        soak.add(round(1));
        let (_, second) = soak.next();
        assert_ne!((&first.faults, first.seed), (&second.faults, second.seed));
    }

    #[test]
    fn the_total_has_every_sample_and_the_slowest_boot() {
        let mut soak = soak();
        assert_eq!(soak.total(), None);
        soak.add(round(1));
        let mut worse = round(2);
        worse.report.faults[0].samples[0].recovered_ns = None;
        worse.report.first.as_mut().unwrap().sample.recovered_ns = Some(Nanos::from_secs(1));
        worse.report.faults.push(fixture::fault("step:+1h", &[600]));
        soak.add(worse);
        let total = soak.total().unwrap();
        let summary = total.faults[0].summary;
        assert_eq!(
            (summary.count, summary.recovered, total.faults[0].requested),
            (4, 3, 4)
        );
        assert_eq!(total.faults[1].fault, "step:+1h");
        let first = total.first.unwrap().sample.recovered_ns;
        assert_eq!(first, Some(Nanos::from_secs(1)));
    }

    #[test]
    fn only_failing_samples_keep_their_traces() {
        let mut soak = soak();
        let mut traced = round(1);
        for sample in &mut traced.report.faults[0].samples {
            sample.trace = vec![TracePoint::default()];
        }
        traced.report.faults[0].samples[1].recovered_ns = None;
        let samples = &soak.add(traced).report.faults[0].samples;
        assert_eq!((samples[0].trace.len(), samples[1].trace.len()), (0, 1));
    }

    #[test]
    fn a_file_that_is_no_soak_s_is_told_why() {
        let told = |text: &str| Soak::parse(text).unwrap_err().to_string();
        let settings = file(&soak());
        assert!(told("").contains("line 1"));
        assert!(told("{\"v\":1,\"faults\":[]}\n").contains("line 1"));
        assert!(told(&settings.replace("\"v\":1", "\"v\":2")).contains("version 2"));
        assert!(told(&settings.replace("step:-1h", "wobble:1")).contains("wobble:1"));
        assert!(told(&format!("{settings}{{}}\n")).contains("line 2 is no round"));
        let mut gap = soak();
        gap.add(round(2));
        assert!(told(&file(&gap)).contains("round 1 was expected"));
    }
}
