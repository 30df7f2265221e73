//! The report as a person reads it.

use noonmark_contract::record::{Cause, DetectedBy};
use noonmark_contract::units::Nanos;
use serde::Serialize;

use crate::report::exits::Exits;
use crate::report::gate::Verdict;
use crate::report::limits::Limits;
use crate::report::{MeasuredBy, Report, Sample, Summary};

use super::series::series;
use super::table::{lines, table};
use super::words::{P99, error, figure, p99, word};

/// The whole report as text: where it was measured, a table of the faults, what was not run, and
/// the verdict. Ends with a line's end.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut text = environment(report);
    text.push('\n');
    text.push_str(&faults(report));
    text.push_str(&series(&[("noonmark", report)]));
    text.push('\n');
    match report.verdict() {
        Verdict::Passed { samples } => {
            text += &format!(
                "passed: {samples} of {samples} recovered within {}{}{}{}\n",
                report.max_recovery_ns,
                sources(report),
                errors(report),
                if report.limits == Limits::default() {
                    ""
                } else {
                    ", or within the limits given for it"
                }
            )
        }
        Verdict::Failed { .. } => {
            let (recovered, of) = report.recovered();
            text += &format!("failed: {recovered} of {of} recovered\n");
            for failure in report.failures() {
                text += &format!("failed: {}\n", failure.reason);
                for replay in failure.replays {
                    text += &format!("  again: {replay}\n");
                }
            }
        }
    }
    text
}

/// What the clock was held to around the faults, where that was measured.
fn errors(report: &Report) -> String {
    report.held_to().map_or_else(String::new, |limit| {
        format!(", the error against the host within {limit} before and after")
    })
}

/// What passes for faults of a source, where there are any and that is another time.
fn sources(report: &Report) -> String {
    let asked = report.max_recovery_ns;
    let allowed = report.faults.iter().map(|f| f.family.max_recovery(asked));
    match allowed.max() {
        Some(longest) if longest > asked => format!(", or left a bad source within {longest}"),
        _ => String::new(),
    }
}

/// Where it was measured, in a few lines.
pub(crate) fn environment(report: &Report) -> String {
    let at = &report.environment;
    let unknown = || "unknown".to_owned();
    let mut text = String::new();
    text += &format!(
        "QEMU {}, {} vCPUs, accelerator {} ({})\n",
        at.qemu, at.vcpus, at.accelerator, at.accelerator_reason
    );
    text += &format!(
        "kernel {}, clocksource {}, source {}, method {}\n",
        at.kernel.clone().unwrap_or_else(unknown),
        at.clocksource.clone().unwrap_or_else(unknown),
        at.source.as_ref().map_or_else(unknown, ToString::to_string),
        at.method.as_ref().map_or_else(unknown, word),
    );
    if let Some(by) = &report.host.emulated {
        text += &format!(
            "host: KVM ({}) of Linux {} under emulation, by QEMU {} on Linux {}, {}\n",
            by.kvm,
            report.host.kernel.clone().unwrap_or_else(unknown),
            by.qemu,
            by.kernel.clone().unwrap_or_else(unknown),
            by.cpu.clone().unwrap_or_else(unknown),
        );
    }
    if let Some(share) = report.host.qemu_waited_share
        && report.host.was_busy()
    {
        text += &format!(
            "the host was busy: QEMU waited for a processor during {:.0} % of the time, and the \
                 times below include it\n",
            share * 100.0
        );
    }
    for source in &report.sources {
        if let Some(why) = &source.last_failure {
            text += &format!("source {}: {why}\n", source.source);
        }
    }
    if let Some(boot) = &report.boot {
        let synced = boot
            .init_to_synced_ns
            .map_or_else(unknown, |took| took.to_string());
        text += &format!(
            "kernel to PID 1 {}, from there to the first sync {synced}\n",
            boot.kernel_to_init_ns
        );
    }
    if let Some(exits) = report.boot_exits {
        text += &format!(
            "VM exits from QEMU's start to the first sync: {}\n",
            exits_in_words(exits)
        );
    }
    let recoveries = report.faults.iter().flat_map(|fault| &fault.samples);
    let mut exits: Vec<u64> = recoveries
        .filter_map(|sample| Some(sample.exits?.all))
        .collect();
    exits.sort_unstable();
    if let Some(median) = exits.get(exits.len() / 2) {
        text += &format!("VM exits from before a fault to after its recovery: {median} (median)\n");
    }
    if let (Some(error), Some(limit)) = (report.synced, report.error_limit_ns) {
        let how = match error.measured_by {
            MeasuredBy::Observer => "by the observer's own readings of ptp_kvm",
            MeasuredBy::Host => "by the host's exchanges with the guest",
        };
        text += &format!(
            "error against the host's clock before the first fault {error}, {how}; at most {limit} \
             passes\n"
        );
    }
    if let Some(init) = &report.init {
        text += &format!(
            "PID 1 uses {:.2} % of a vCPU and {} KiB when idle\n",
            init.cpu_ppm as f64 / 1e4,
            init.rss_kib
        );
    }
    text
}

fn exits_in_words(exits: Exits) -> String {
    let Exits {
        all,
        port_io,
        mmio,
        interrupts,
        halts,
        hypercalls,
    } = exits;
    format!(
        "{all} ({port_io} for port I/O, {mmio} for MMIO, {interrupts} for interrupts, {halts} halts, \
         {hypercalls} hypercalls)"
    )
}

fn faults(report: &Report) -> String {
    let header = [
        "fault",
        "recovered",
        "p50",
        P99,
        "max",
        "wrong reads",
        "error before",
        "error after",
        "detected by",
        "cause",
    ];
    let mut table = table(&header, 1..8);
    if let Some(first) = &report.first {
        let samples = std::slice::from_ref(&first.sample);
        let name = format!("{} (first, cold)", first.fault);
        table.add_row(row(name, 1, &Summary::of(samples), samples));
    }
    for fault in &report.faults {
        table.add_row(row(
            fault.fault.clone(),
            fault.requested,
            &fault.summary,
            &fault.samples,
        ));
    }
    lines(&table)
}

fn row(name: String, requested: u32, summary: &Summary, samples: &[Sample]) -> [String; 10] {
    let of_all = |largest: Option<String>| largest.unwrap_or_else(|| "-".to_owned());
    [
        name,
        format!("{}/{requested}", summary.recovered),
        figure(summary.p50_ns, summary, Nanos::ZERO),
        p99(summary, Nanos::ZERO),
        figure(summary.max_ns, summary, Nanos::ZERO),
        of_all(
            samples
                .iter()
                .map(|s| s.wrong_reads)
                .max()
                .map(|n| n.to_string()),
        ),
        error(samples.iter().map(|s| s.before)),
        error(samples.iter().map(|s| s.after)),
        detectors(samples),
        causes(samples),
    ]
}

fn detectors(samples: &[Sample]) -> String {
    let seen: Vec<Option<DetectedBy>> = samples.iter().map(|s| s.detected_by).collect();
    kinds(&seen)
}

fn causes(samples: &[Sample]) -> String {
    let seen: Vec<Option<Cause>> = samples.iter().map(|s| s.cause).collect();
    kinds(&seen)
}

/// Each kind once, with its number where there are several.
fn kinds<T: Ord + Copy + Serialize>(seen: &[Option<T>]) -> String {
    let mut kinds: Vec<Option<T>> = seen.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let name = |kind: &Option<T>| kind.as_ref().map_or_else(|| "-".to_owned(), word);
    match kinds.as_slice() {
        [] => "-".to_owned(),
        [only] => name(only),
        several => several
            .iter()
            .map(|kind| {
                let count = seen.iter().filter(|other| *other == kind).count();
                format!("{} x{count}", name(kind))
            })
            .collect::<Vec<String>>()
            .join(", "),
    }
}

#[cfg(test)]
mod tests {
    use crate::fault::Family;
    use crate::fixture;
    use crate::report::NotRun;

    use super::*;

    #[test]
    fn a_report_reads_like_this() {
        let expected = "\
QEMU 10.0.2 (Debian 1:10.0.2), 2 vCPUs, accelerator tcg (it was asked for)
kernel 6.1.0-56-cloud-amd64, clocksource kvm-clock, source kvm, method precise
the host was busy: QEMU waited for a processor during 25 % of the time, and the times below include it
source vmclock: no such device
kernel to PID 1 2.400 s, from there to the first sync 120.000 ms
error against the host's clock before the first fault -3 ns ± 10 ns, by the observer's own readings of ptp_kvm; at most 1.000 us passes
PID 1 uses 0.31 % of a vCPU and 900 KiB when idle

fault                   recovered         p50  p99 of 100 up        max  wrong reads  error before     error after  detected by                      cause
step:-1h (first, cold)        1/1   14.000 ms              -  14.000 ms          210  5 ns ± 10 ns  -72 ns ± 10 ns  cancel_on_set                    guest_step
step:-1h                      2/2  612.000 us              -  20.500 ms          210  5 ns ± 10 ns  -72 ns ± 10 ns  cancel_on_set x1, watch_tick x1  guest_step

passed: 3 of 3 recovered within 50.000 ms, the error against the host within 1.000 us before and after
";
        assert_eq!(report(&fixture::report()), expected);
    }

    #[test]
    fn a_bad_source_has_its_own_time_and_the_verdict_says_it() {
        let mut failed = fixture::report();
        failed.faults[0].family = Family::SourceLoss;
        let text = report(&failed);
        let verdict = "passed: 3 of 3 recovered within 50.000 ms, or left a bad source within 1.000 s, the error \
             against the host within 1.000 us before and after\n";
        assert!(text.ends_with(verdict), "{text}");
    }

    #[test]
    fn what_failed_and_what_was_not_run_is_said() {
        let mut failed = fixture::report();
        failed.faults[0].samples[0].recovered_ns = None;
        failed.faults[0].samples[0].replay = "cargo xtask recover --fault step:-1h".into();
        failed.not_run.push(NotRun {
            fault: "step:+1h".into(),
            reason: "the guest's kernel panicked".into(),
        });
        let text = report(&failed);
        assert!(
            text.contains("failed: step:-1h: 1 of 2 did not recover\n"),
            "{text}"
        );
        assert!(
            text.contains("  again: cargo xtask recover --fault step:-1h\n"),
            "{text}"
        );
        let gap = "failed: step:+1h: not run, or not to the end: the guest's kernel panicked\n";
        assert!(text.ends_with(gap), "{text}");
        assert!(!text.contains("passed"), "{text}");
    }
}
