//! What got slower between two files of measurements, with noise allowed for.
//!
//! Samples of one boot have much in common: where its code and data lie, what else the host did. So the
//! boot is the unit: of each fault, each boot has one time, the median of its samples there, and more
//! samples in a boot make that surer, but no more boots.
//!
//! A fault counts as slower where a rank test on its boots' times finds them longer, with a chance of
//! error that allows for all the questions asked at once, and where the usual time has also grown by
//! more than is worth a word. A fault that always recovered before and no longer does counts as worse
//! without a test.

use std::collections::BTreeMap;

use noonmark_contract::units::Nanos;

use crate::stats::{chance_of_longer, growth, holm, median, smallest_chance};

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
    /// What the second file should have and lacks: faults and peers of the first, samples that were
    /// asked for, faults that were not run. Of these nobody can tell that they got no slower.
    pub lacking: Vec<String>,
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
    /// In how many boots the samples of each were taken.
    pub boots: [usize; 2],
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
    /// Even a clear difference would not be told from noise with so few boots.
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
        let mut lacking = Vec::new();
        for (peer, report) in &old {
            let Some((_, later)) = new.iter().find(|(name, _)| name == peer) else {
                unmatched.push(format!("{peer} is only in the first file"));
                lacking.push(format!("{peer}: it is not in the second file"));
                continue;
            };
            lacking.extend(lacking_in(later, report).map(|gap| format!("{peer}, {gap}")));
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
            lacking,
        }
    }

    /// The faults that got slower, or no longer recover.
    pub fn slower(&self) -> impl Iterator<Item = &Row> {
        let worse = |row: &&Row| matches!(row.finding, Finding::Slower | Finding::Lost);
        self.rows.iter().filter(worse)
    }
}

fn judge(pairs: &[Pair<'_>], criteria: Criteria) -> Vec<Row> {
    let times: Vec<[Vec<Nanos>; 2]> = pairs
        .iter()
        .map(|pair| [pair.before, pair.after].map(boot_times))
        .collect();
    // Of each fault it is asked whether it got slower and whether it got faster.
    let chances: Vec<f64> = times
        .iter()
        .flat_map(|[before, after]| {
            [
                chance_of_longer(before, after),
                chance_of_longer(after, before),
            ]
        })
        .collect();
    let corrected = holm(&chances);
    let asked = corrected.len() as f64;
    let rows = pairs.iter().zip(&times).zip(corrected.chunks(2));
    rows.map(|((pair, times), chance)| row(pair, times, [chance[0], chance[1]], asked, criteria))
        .collect()
}

fn row(
    pair: &Pair<'_>,
    [old, new]: &[Vec<Nanos>; 2],
    [slower, faster]: [f64; 2],
    asked: f64,
    criteria: Criteria,
) -> Row {
    let (before, after) = (Summary::of(pair.before), Summary::of(pair.after));
    let growth = growth(old, new);
    let grown = growth.is_none_or(|growth| growth >= criteria.growth);
    let shrunk = growth.is_some_and(|growth| growth <= 1.0 / criteria.growth);
    let attainable = smallest_chance(old.len(), new.len());
    let finding = if !before.has_lost() && after.has_lost() {
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
        boots: [old.len(), new.len()],
        growth,
        chance: slower.min(faster),
        finding,
    }
}

/// The median time of each boot's samples; a sample that did not recover took for ever.
fn boot_times(samples: &[Sample]) -> Vec<Nanos> {
    let mut boots: BTreeMap<u32, Vec<Nanos>> = BTreeMap::new();
    for sample in samples {
        boots.entry(sample.boot).or_default().push(sample.time());
    }
    let times = boots.into_values();
    times
        .filter_map(|times| median(times.into_iter()))
        .collect()
}

/// What a report lacks that it was to have, or that an earlier one has.
fn lacking_in<'a>(
    report: &'a Report,
    earlier: &'a Report,
) -> impl Iterator<Item = String> + use<'a> {
    let missing = earlier.faults.iter().filter(|fault| {
        fault.summary.count > 0 && !report.faults.iter().any(|o| o.fault == fault.fault)
    });
    let missing = missing.map(|fault| format!("{}: it is not in the second file", fault.fault));
    let short = report.faults.iter().filter_map(|fault| {
        let (count, of) = (fault.summary.count, fault.requested);
        (count < of).then(|| format!("{}: {count} of {of} samples were taken", fault.fault))
    });
    let gaps = report.not_run.iter();
    let gaps = gaps.map(|gap| format!("{}: it was not run: {}", gap.fault, gap.reason));
    missing.chain(short).chain(gaps)
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
    use crate::report::NotRun;

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
    fn one_late_boot_among_ten_is_noise() {
        let mut after = USUAL;
        after[3] = 40_000;
        assert_eq!(compare(&USUAL, &after).finding, Finding::Same);
    }

    #[test]
    fn many_samples_of_one_boot_are_one_boot() {
        let document = |factor: i64, boots: u32| {
            let mut report = fixture::report();
            report.faults = vec![fixture::fault("step:-1h", &USUAL.map(|us| us * factor))];
            for (index, sample) in (0..).zip(&mut report.faults[0].samples) {
                sample.boot = index % boots;
            }
            Document::Report(Box::new(report))
        };
        let finding = |boots| {
            let (before, after) = (document(1, boots), document(2, boots));
            let comparison = Comparison::of(&before, &after, Criteria::default());
            (comparison.rows[0].boots, comparison.rows[0].finding)
        };
        assert_eq!(finding(1), ([1, 1], Finding::TooFew { needed: 5 }));
        assert_eq!(finding(5), ([5, 5], Finding::Slower));
    }

    #[test]
    fn what_the_second_file_lacks_is_told() {
        let mut before = fixture::report();
        before.faults.push(fixture::fault("step:+1h", &[600]));
        let mut after = before.clone();
        after.faults.remove(0);
        after.faults[0].requested = 3;
        after.not_run.push(NotRun {
            fault: "migrate".into(),
            reason: "QEMU went down".into(),
        });
        let [before, after] = [before, after].map(|report| Document::Report(Box::new(report)));
        let lacking = Comparison::of(&before, &after, Criteria::default()).lacking;
        assert_eq!(
            lacking,
            [
                "noonmark, step:-1h: it is not in the second file",
                "noonmark, step:+1h: 1 of 3 samples were taken",
                "noonmark, migrate: it was not run: QEMU went down",
            ]
        );
    }

    #[test]
    fn three_boots_tell_nothing_and_it_is_said_how_many_would() {
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
