//! A bench as a person reads it: who keeps the clock how well, side by side.

use comfy_table::Table;

use crate::report::bench::{Bench, PeerRun};
use crate::report::steady::SteadyState;
use crate::report::{FaultReport, Report};

use super::series::series;
use super::table::{lines, table};
use super::words::{
    NOTHING_TO_SAY, P99, bound, cpu, error, figure, fine, observer, p99, ratio, resident, time,
};

/// The bench as text: where it was measured, one table for the faults, one for the steady state
/// and one for the boots where these were asked for, and what was not run. Ends with a line's end.
#[must_use]
pub fn bench(bench: &Bench) -> String {
    let mut text = environment(bench);
    for (table, notes) in [
        (faults(bench), String::new()),
        (steady(bench), observers(bench)),
        (boots(bench), String::new()),
    ] {
        if let Some(table) = table {
            text.push('\n');
            text.push_str(&lines(&table));
            text.push_str(&notes);
        }
    }
    let runs: Vec<(&str, &Report)> = bench
        .runs
        .iter()
        .map(|run| (&*run.peer, &run.report))
        .collect();
    text.push_str(&series(&runs));
    let gaps: Vec<String> = not_run(bench);
    if !gaps.is_empty() {
        text.push('\n');
        for gap in gaps {
            text += &format!("{gap}\n");
        }
    }
    text
}

fn environment(bench: &Bench) -> String {
    let mut text = String::new();
    // Every run is on the same machine; the first one that got so far tells.
    let run = bench.runs.iter().find(|run| run.report.boot.is_some());
    if let Some(PeerRun { report, .. }) = run {
        let at = &report.environment;
        let unknown = || "unknown".to_owned();
        text += &format!(
            "QEMU {}, {} vCPUs, accelerator {} ({})\nkernel {}, clocksource {}\n",
            at.qemu,
            at.vcpus,
            at.accelerator,
            at.accelerator_reason,
            at.kernel.clone().unwrap_or_else(unknown),
            at.clocksource.clone().unwrap_or_else(unknown),
        );
    }
    for run in &bench.runs {
        text += &format!("{}: {}\n", run.peer, run.version);
        if let Some(share) = run.report.host.qemu_waited_share
            && run.report.host.was_busy()
        {
            text += &format!(
                "  the host was busy: QEMU waited for a processor during {:.0} % of the time, \
                     and the times below include it\n",
                share * 100.0
            );
        }
    }
    text
}

fn faults(bench: &Bench) -> Option<Table> {
    let ours = bench.runs.first()?;
    let mut names: Vec<&str> = Vec::new();
    let all = bench.runs.iter().flat_map(|run| &run.report.faults);
    for fault in all.filter(|fault| fault.summary.count > 0) {
        if !names.contains(&&*fault.fault) {
            names.push(&fault.fault);
        }
    }
    if names.is_empty() {
        return None;
    }
    let header = [
        "fault",
        "clock kept by",
        "recovered",
        "p50",
        P99,
        "max",
        "times ours",
        "error before",
        "error after",
    ];
    let mut table = table(&header, 2..9);
    for name in names {
        let of = |run: &'_ PeerRun| -> Option<FaultReport> {
            let mut faults = run.report.faults.iter();
            faults.find(|fault| fault.fault == name).cloned()
        };
        let reference = of(ours).and_then(|fault| fault.summary.p50_ns);
        for run in &bench.runs {
            let Some(fault) = of(run).filter(|fault| fault.summary.count > 0) else {
                continue;
            };
            let deadline = bench.deadline_ns;
            table.add_row([
                name.to_owned(),
                run.peer.clone(),
                format!("{}/{}", fault.summary.recovered, fault.requested),
                figure(fault.summary.p50_ns, &fault.summary, deadline),
                p99(&fault.summary, deadline),
                figure(fault.summary.max_ns, &fault.summary, deadline),
                ratio(&fault.summary, reference, deadline),
                error(fault.samples.iter().map(|s| s.before)),
                error(fault.samples.iter().map(|s| s.after)),
            ]);
        }
    }
    Some(table)
}

fn steady(bench: &Bench) -> Option<Table> {
    let states: Vec<(&PeerRun, &SteadyState)> = bench
        .runs
        .iter()
        .filter_map(|run| Some((run, run.steady.as_ref()?)))
        .collect();
    if states.is_empty() {
        return None;
    }
    let header = [
        "clock kept by",
        "undisturbed for",
        "readings",
        "RMS",
        "max",
        "within its bound",
        "CPU of a vCPU",
        "resident",
    ];
    let mut table = table(&header, 1..8);
    for (run, state) in states {
        let unknown = || NOTHING_TO_SAY.to_owned();
        table.add_row([
            run.peer.clone(),
            state.span_ns.to_string(),
            state.offsets_ns.len().to_string(),
            fine(state.rms_ns),
            state.max_ns.to_string(),
            bound(state).unwrap_or_else(unknown),
            state.keeper.as_ref().map_or_else(unknown, cpu),
            state.keeper.as_ref().map_or_else(unknown, resident),
        ]);
    }
    Some(table)
}

/// What a reader must know of how the steady states were read; nothing where ptp_kvm told.
fn observers(bench: &Bench) -> String {
    let mut text = String::new();
    for run in &bench.runs {
        if let Some(words) = run.steady.as_ref().and_then(observer) {
            text += &format!("{}: {words}\n", run.peer);
        }
    }
    text
}

fn boots(bench: &Bench) -> Option<Table> {
    if bench.runs.iter().all(|run| run.boots.is_empty()) {
        return None;
    }
    let header = [
        "RTC years off, clock kept by",
        "boots",
        "first read wrong",
        "largest error",
        "right after, median",
        "longest",
    ];
    let mut table = table(&header, 1..6);
    for run in &bench.runs {
        if let Some(figures) = run.first_reads() {
            table.add_row([
                run.peer.clone(),
                figures.boots.to_string(),
                figures.wrong.to_string(),
                figures.largest.to_string(),
                time(figures.median),
                time(figures.longest),
            ]);
        }
    }
    Some(table)
}

fn not_run(bench: &Bench) -> Vec<String> {
    let missing = bench.missing.iter();
    let mut gaps: Vec<String> = missing
        .map(|gap| format!("not run: {}: {}", gap.peer, gap.reason))
        .collect();
    for run in &bench.runs {
        for gap in &run.report.not_run {
            gaps.push(format!(
                "not run: {}, {}: {}",
                run.peer, gap.fault, gap.reason
            ));
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Nanos;

    use crate::fixture;
    use crate::report::bench::{FirstRead, MissingPeer};
    use crate::report::host::Host;
    use crate::report::steady::Cost;
    use crate::report::{NotRun, Sample, Summary};

    use super::*;

    fn run(peer: &str, times_us: &[Option<i64>]) -> PeerRun {
        let samples: Vec<Sample> = times_us.iter().copied().map(fixture::sample).collect();
        let mut report = fixture::report();
        report.boot = None;
        report.host = Host::default();
        report.faults = vec![FaultReport {
            requested: 2,
            summary: Summary::of(&samples),
            samples,
            ..fixture::fault("step:-1h", &[])
        }];
        PeerRun::new(peer, "4.3-2", report)
    }

    fn bench() -> Bench {
        let mut ours = run("noonmark", &[Some(600), Some(800)]);
        ours.steady = Some(SteadyState {
            span_ns: Nanos::from_secs(60),
            warm_up_ns: Nanos::from_secs(20),
            failed: 0,
            rms_ns: 2.25,
            max_ns: Nanos(8),
            keeper: Some(Cost {
                cpu_ppm: 3_000,
                rss_kib: 900,
            }),
            offsets_ns: vec![Nanos(2); 600],
            bounds_ns: vec![Some(Nanos(1_250)); 600],
            ..SteadyState::default()
        });
        let mut slow = run("chronyd", &[Some(6_000_000), None]);
        slow.boots = vec![FirstRead {
            error_ns: Nanos::from_secs(800_000_000),
            at_ns: Nanos::from_secs(3),
            right_at_ns: Some(Nanos::from_secs(7)),
        }];
        let never = run("chronyd-debian", &[None, None]);
        let missing = MissingPeer {
            peer: "phc2sys".into(),
            reason: "there is no network".into(),
        };
        Bench {
            deadline_ns: Nanos::from_secs(15),
            ..Bench::new(vec![ours, slow, never], vec![missing])
        }
    }

    #[test]
    fn a_bench_reads_like_this() {
        let expected = "\
noonmark: 4.3-2
chronyd: 4.3-2
chronyd-debian: 4.3-2

fault     clock kept by   recovered         p50  p99 of 100 up         max  times ours  error before     error after
step:-1h  noonmark              2/2  600.000 us              -  800.000 us         1.0  5 ns ± 10 ns  -72 ns ± 10 ns
step:-1h  chronyd               1/2     6.000 s              -  > 15.000 s       10000  5 ns ± 10 ns  -72 ns ± 10 ns
step:-1h  chronyd-debian        0/2  > 15.000 s              -  > 15.000 s     > 25000  5 ns ± 10 ns  -72 ns ± 10 ns

clock kept by  undisturbed for  readings     RMS   max     within its bound  CPU of a vCPU  resident
noonmark              60.000 s       600  2.2 ns  8 ns  600/600 of 1.250 us         0.30 %   900 KiB

RTC years off, clock kept by  boots  first read wrong    largest error  right after, median  longest
chronyd                           1                 1  800000000.000 s              4.000 s  4.000 s

not run: phc2sys: there is no network
";
        assert_eq!(super::bench(&bench()), expected);
    }

    #[test]
    fn a_fault_that_a_peer_could_not_be_given_is_listed_with_the_reason() {
        let mut bench = bench();
        bench.runs[1].report.not_run.push(NotRun {
            fault: "liar:drift".into(),
            reason: "it doesn't read that source".into(),
        });
        let text = super::bench(&bench);
        assert!(
            text.ends_with("not run: chronyd, liar:drift: it doesn't read that source\n"),
            "{text}"
        );
    }
}
