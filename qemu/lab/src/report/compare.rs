//! What got slower between two files of measurements, with noise allowed for.
//!
//! A fault counts as slower where a rank test on all its samples finds its times longer, with a
//! chance of error that allows for all the questions asked at once, and where the usual time has
//! also grown by more than is worth a word. A fault that always recovered before and no longer
//! does counts as worse without a test.

use noonmark_contract::units::Nanos;

use crate::stats::{chance_of_longer, growth, holm, smallest_chance};

use super::document::Document;
use super::{Report, Sample, Summary};

/// When a difference counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Criteria {
    /// The chance that is taken of calling anything slower or faster that is not: 0.01.
    pub level: f64,
    /// The growth of the usual time from which it is worth a word: 1.1, ten per cent.
    pub growth: f64,
}

impl Default for Criteria {
    fn default() -> Self {
        Self {
            level: 0.01,
            growth: 1.1,
        }
    }
}

/// Two files side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// By what it was judged.
    pub criteria: Criteria,
    /// How the two were measured differently; empty where nothing but the code can have changed.
    pub differences: Vec<String>,
    /// Each fault that is in both, in the order of the first.
    pub rows: Vec<Row>,
    /// Faults that are only in one of them.
    pub unmatched: Vec<String>,
}

/// One fault in both files.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What kept the clock.
    pub peer: String,
    /// The fault.
    pub fault: String,
    /// The first file's figures.
    pub before: Summary,
    /// The second file's.
    pub after: Summary,
    /// The usual ratio of a time after to a time before; none where there is no such ratio.
    pub growth: Option<f64>,
    /// The chance that noise alone looks like this, corrected for all questions asked at once.
    pub chance: f64,
    /// What follows.
    pub finding: Finding,
}

/// What a comparison of one fault found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No difference that noise would not make.
    Same,
    /// It takes longer to recover.
    Slower,
    /// It takes less long to recover.
    Faster,
    /// It always recovered before and no longer does.
    Lost,
    /// Even a clear difference would not be told from noise with so few samples.
    TooFew {
        /// How many of each would do.
        needed: usize,
    },
}

/// The samples of one fault in both files, before they are judged.
struct Pair<'a> {
    peer: &'a str,
    fault: &'a str,
    before: &'a [Sample],
    after: &'a [Sample],
}

impl Comparison {
    /// Compares the second file with the first.
    #[must_use]
    pub fn of(before: &Document, after: &Document, criteria: Criteria) -> Self {
        let (old, new) = (before.runs(), after.runs());
        let mut differences = Vec::new();
        let mut pairs = Vec::new();
        let mut unmatched = Vec::new();
        for (peer, report) in &old {
            let Some((_, later)) = new.iter().find(|(name, _)| name == peer) else {
                unmatched.push(format!("{peer} is only in the first file"));
                continue;
            };
            differences.extend(differences_between(report, later));
            unmatched.extend(only_in(report, later, "first"));
            unmatched.extend(only_in(later, report, "second"));
            pairs.extend(report.faults.iter().filter_map(|fault| {
                let other = later.faults.iter().find(|o| o.fault == fault.fault)?;
                Some(Pair {
                    peer,
                    fault: &fault.fault,
                    before: &fault.samples,
                    after: &other.samples,
                })
            }));
        }
        let gone = |(peer, _): &&(&str, &Report)| !old.iter().any(|(name, _)| name == peer);
        let only_new = new.iter().filter(gone);
        unmatched.extend(only_new.map(|(peer, _)| format!("{peer} is only in the second file")));
        differences.dedup();
        Self {
            criteria,
            differences,
            rows: judge(&pairs, criteria),
            unmatched,
        }
    }

    /// The faults that got slower, or no longer recover.
    pub fn slower(&self) -> impl Iterator<Item = &Row> {
        let worse = |row: &&Row| matches!(row.finding, Finding::Slower | Finding::Lost);
        self.rows.iter().filter(worse)
    }
}

fn judge(pairs: &[Pair<'_>], criteria: Criteria) -> Vec<Row> {
    // Of each fault it is asked whether it got slower and whether it got faster.
    let chances: Vec<f64> = pairs
        .iter()
        .flat_map(|pair| {
            let (before, after) = (times(pair.before), times(pair.after));
            [
                chance_of_longer(&before, &after),
                chance_of_longer(&after, &before),
            ]
        })
        .collect();
    let corrected = holm(&chances);
    let asked = corrected.len() as f64;
    let rows = pairs.iter().zip(corrected.chunks(2));
    rows.map(|(pair, chance)| row(pair, chance[0], chance[1], asked, criteria))
        .collect()
}

fn row(pair: &Pair<'_>, slower: f64, faster: f64, asked: f64, criteria: Criteria) -> Row {
    let (before, after) = (Summary::of(pair.before), Summary::of(pair.after));
    let growth = growth(&times(pair.before), &times(pair.after));
    let grown = growth.is_none_or(|growth| growth >= criteria.growth);
    let shrunk = growth.is_some_and(|growth| growth <= 1.0 / criteria.growth);
    let attainable = smallest_chance(pair.before.len(), pair.after.len());
    let finding = if before.recovered == before.count && after.recovered < after.count {
        Finding::Lost
    } else if slower <= criteria.level && grown {
        Finding::Slower
    } else if faster <= criteria.level && shrunk {
        Finding::Faster
    } else if attainable * asked > criteria.level {
        let enough = |n: &usize| smallest_chance(*n, *n) * asked <= criteria.level;
        Finding::TooFew {
            needed: (1..1000).find(enough).unwrap_or(1000),
        }
    } else {
        Finding::Same
    };
    Row {
        peer: pair.peer.to_owned(),
        fault: pair.fault.to_owned(),
        before,
        after,
        growth,
        chance: slower.min(faster),
        finding,
    }
}

/// The times of all samples; the longest there is for one that did not recover.
fn times(samples: &[Sample]) -> Vec<Nanos> {
    let time = |sample: &Sample| sample.recovered_ns.unwrap_or(Nanos::MAX);
    samples.iter().map(time).collect()
}

fn only_in(one: &Report, other: &Report, which: &str) -> Vec<String> {
    one.faults
        .iter()
        .filter(|fault| !other.faults.iter().any(|o| o.fault == fault.fault))
        .map(|fault| format!("{} is only in the {which} file", fault.fault))
        .collect()
}

/// What beside noonmark itself may explain a difference of the times.
fn differences_between(before: &Report, after: &Report) -> Vec<String> {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let (b, a) = (&before.environment, &after.environment);
    let pairs = [
        ("QEMU", b.qemu.clone(), a.qemu.clone()),
        ("accelerator", b.accelerator.clone(), a.accelerator.clone()),
        ("vCPUs", b.vcpus.to_string(), a.vcpus.to_string()),
        ("guest's kernel", known(&b.kernel), known(&a.kernel)),
        ("clocksource", known(&b.clocksource), known(&a.clocksource)),
        (
            "source",
            format!("{:?}", b.source),
            format!("{:?}", a.source),
        ),
        (
            "method",
            format!("{:?}", b.method),
            format!("{:?}", a.method),
        ),
        (
            "host's kernel",
            known(&before.host.kernel),
            known(&after.host.kernel),
        ),
        (
            "host's processor",
            known(&before.host.cpu),
            known(&after.host.cpu),
        ),
        (
            "tolerance",
            before.tolerance_ns.to_string(),
            after.tolerance_ns.to_string(),
        ),
    ];
    let mut found: Vec<String> = pairs
        .into_iter()
        .filter(|(_, before, after)| before != after)
        .map(|(what, before, after)| format!("{what}: {before}, then {after}"))
        .collect();
    for (which, report) in [("first", before), ("second", after)] {
        if report.host.was_busy() {
            found.push(format!("the host of the {which} was busy"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::fixture;

    use super::*;

    fn compare(before: &[i64], after: &[i64]) -> Row {
        let document = |times: &[i64]| {
            let mut report = fixture::report();
            report.faults = vec![fixture::fault("step:-1h", times)];
            Document::Report(Box::new(report))
        };
        let comparison = Comparison::of(&document(before), &document(after), Criteria::default());
        comparison.rows.into_iter().next().expect("a row")
    }

    const USUAL: [i64; 10] = [610, 620, 590, 640, 700, 655, 605, 615, 630, 950];

    #[test]
    fn the_same_times_are_the_same() {
        let row = compare(&USUAL, &USUAL);
        assert_eq!(row.finding, Finding::Same);
        assert_eq!(row.growth, Some(1.0));
    }

    #[test]
    fn times_twice_as_long_are_slower_and_the_other_way_faster() {
        let twice = USUAL.map(|us| us * 2);
        let slower = compare(&USUAL, &twice);
        assert_eq!(slower.finding, Finding::Slower);
        assert!(slower.chance < 0.001, "{}", slower.chance);
        assert_eq!(compare(&twice, &USUAL).finding, Finding::Faster);
    }

    #[test]
    fn a_sure_difference_that_is_too_small_to_matter_is_none() {
        let before: Vec<i64> = (1000..1010).collect();
        let after: Vec<i64> = (1020..1030).collect();
        let row = compare(&before, &after);
        assert!(row.chance < 0.01);
        assert_eq!(row.finding, Finding::Same);
    }

    #[test]
    fn one_late_sample_among_ten_is_noise() {
        let mut after = USUAL;
        after[3] = 40_000;
        assert_eq!(compare(&USUAL, &after).finding, Finding::Same);
    }

    #[test]
    fn three_samples_tell_nothing_and_it_is_said_how_many_would() {
        let row = compare(&[600, 610, 620], &[6000, 6100, 6200]);
        assert_eq!(row.finding, Finding::TooFew { needed: 5 });
    }

    #[test]
    fn what_no_longer_recovers_is_lost_whatever_the_numbers() {
        let mut reports = [fixture::report(), fixture::report()];
        reports[1].faults[0].samples[0].recovered_ns = None;
        let [before, after] = reports.map(|report| Document::Report(Box::new(report)));
        let comparison = Comparison::of(&before, &after, Criteria::default());
        assert_eq!(comparison.rows[0].finding, Finding::Lost);
        assert_eq!(comparison.slower().count(), 1);
    }

    #[test]
    fn another_environment_and_faults_of_one_file_only_are_told() {
        let before = fixture::report();
        let mut after = before.clone();
        after.environment.vcpus = 1;
        after.faults[0].fault = "step:+1h".into();
        after.host.qemu_waited_share = None;
        let [before, after] = [before, after].map(|report| Document::Report(Box::new(report)));
        let comparison = Comparison::of(&before, &after, Criteria::default());
        assert_eq!(
            comparison.differences,
            ["vCPUs: 2, then 1", "the host of the first was busy"]
        );
        assert_eq!(
            comparison.unmatched,
            [
                "step:-1h is only in the first file",
                "step:+1h is only in the second file"
            ]
        );
        assert!(comparison.rows.is_empty());
    }
}
