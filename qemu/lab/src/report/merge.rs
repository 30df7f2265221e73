//! Several runs of the same kind as one report: the rounds of a soak, or an experiment that is done in
//! one guest after the other.

use super::{FaultReport, FirstSample, Report, Summary};

/// All of them as one: each fault with the samples of all runs, whose boots are counted on from run to
/// run; the slowest first fault after a boot, the largest error of a clock that was called synced, and
/// what was not run in any of them. None of no runs.
#[must_use]
pub fn merged<'a>(runs: impl IntoIterator<Item = &'a Report>) -> Option<Report> {
    let mut runs = runs.into_iter();
    let mut total = runs.next()?.clone();
    for run in runs {
        add(&mut total, run);
    }
    Some(total)
}

fn add(total: &mut Report, run: &Report) {
    total.environment = run.environment.clone();
    total.evidence = run.evidence.clone();
    let boots = boots(total);
    for fault in &run.faults {
        add_fault(&mut total.faults, fault, boots);
    }
    for gap in &run.not_run {
        if !total.not_run.contains(gap) {
            total.not_run.push(gap.clone());
        }
    }
    let slowness = |first: &Option<FirstSample>| first.as_ref().map(|first| first.sample.time());
    if slowness(&run.first) > slowness(&total.first) {
        total.first.clone_from(&run.first);
    }
    let worst = |report: &Report| report.synced.map(|error| error.worst());
    if worst(run) > worst(total) {
        total.synced = run.synced;
    }
    total.series.extend(run.series.iter().cloned());
    if let Some(share) = run.host.qemu_waited_share {
        let worst = total.host.qemu_waited_share.get_or_insert(share);
        *worst = worst.max(share);
    }
}

/// How many boots the samples of a report tell of.
fn boots(report: &Report) -> u32 {
    let samples = report.faults.iter().flat_map(|fault| &fault.samples);
    let first = report.first.iter().map(|first| &first.sample);
    samples.chain(first).map(|s| s.boot).max().unwrap_or(0)
}

fn add_fault(all: &mut Vec<FaultReport>, fault: &FaultReport, boots: u32) {
    let mut fault = fault.clone();
    for sample in &mut fault.samples {
        sample.boot = sample.boot.saturating_add(boots);
    }
    let Some(known) = all.iter_mut().find(|known| known.fault == fault.fault) else {
        all.push(fault);
        return;
    };
    known.requested = known.requested.saturating_add(fault.requested);
    known.samples.extend(fault.samples);
    known.summary = Summary::of(&known.samples);
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Nanos;

    use crate::fixture;

    use super::*;

    fn run(boots: &[u32]) -> Report {
        let mut report = fixture::report();
        report.faults[0].samples = boots
            .iter()
            .map(|&boot| crate::report::Sample {
                boot,
                ..fixture::sample(Some(600))
            })
            .collect();
        report
    }

    #[test]
    fn the_boots_of_one_run_are_not_those_of_another() {
        let total = merged([&run(&[1, 1, 2]), &run(&[1, 2]), &run(&[1])]).unwrap();
        let boots: Vec<u32> = total.faults[0].samples.iter().map(|s| s.boot).collect();
        assert_eq!(boots, [1, 1, 2, 3, 4, 5]);
        assert_eq!(merged([]), None);
    }

    #[test]
    fn the_worst_beginning_is_told() {
        let mut worse = run(&[1]);
        worse.synced = Some(fixture::error(-900));
        if let Some(first) = &mut worse.first {
            first.sample.recovered_ns = None;
        }
        let total = merged([&run(&[1]), &worse, &run(&[1])]).unwrap();
        assert_eq!(total.synced, worse.synced);
        assert_eq!(total.first.unwrap().sample.time(), Nanos::MAX);
    }
}
