//! The page's parts.

use maud::{Markup, PreEscaped, html};
use noonmark_contract::testport::TracePoint;
use noonmark_contract::units::Nanos;

use crate::report::{FaultReport, Report, Sample, Summary};
use crate::text::words::{P99, error, figure, p99, ratio, time};

use super::plot::{self, COLOURS, PlotError, Series};
use super::samples;

/// One run with the name of what kept the clock.
pub type Run<'a> = (&'a str, &'a Report);

/// So many traces of a run are drawn for a fault; more would make a large page and a black plot.
const TRACES_MAX: usize = 24;

/// That the host had other work, where the figures show it.
pub fn load(report: &Report) -> Markup {
    html! {
        @if report.host.was_busy() && let Some(share) = report.host.qemu_waited_share {
            p.note {
                "The host was busy: QEMU waited for a processor during "
                (format!("{:.0}", share * 100.0)) " % of the time, and the times below include it."
            }
        }
    }
}

/// Which colour is whose; nothing where there is only one.
pub fn legend(runs: &[Run<'_>]) -> Markup {
    html! {
        @if runs.len() > 1 {
            p.legend {
                @for (index, (peer, _)) in runs.iter().enumerate() {
                    span { (swatch(index)) (peer) }
                }
            }
        }
    }
}

pub fn swatch(index: usize) -> Markup {
    let class = format!("swatch c{}", index % COLOURS.len());
    html! { i class=(class) {} }
}

/// The names of all faults, each once, in the order of the first run that has it.
pub fn faults<'a>(runs: &[Run<'a>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (_, report) in runs {
        for fault in &report.faults {
            if !names.contains(&&*fault.fault) {
                names.push(&fault.fault);
            }
        }
    }
    names
}

/// The table of all faults, and of all runs for each; a clock that most samples left wrong was watched
/// for `deadline`.
pub fn overview(runs: &[Run<'_>], deadline: Nanos) -> Markup {
    let several = runs.len() > 1;
    html! {
        div.wide {
            table {
                thead { tr {
                    th { "fault" }
                    @if several { th { "kept by" } }
                    th.n { "recovered" } th.n { "p50" } th.n { (P99) } th.n { "max" }
                    @if several { th.n { "times ours" } }
                    th.n { "error before" } th.n { "error after" }
                } }
                tbody {
                    @if !several && let Some((_, report)) = runs.first() && let Some(first) = &report.first {
                        @let one = std::slice::from_ref(&first.sample);
                        tr {
                            td { (first.fault) " (first, cold)" }
                            (figures(&Summary::of(one), 1, deadline))
                            (errors(one))
                        }
                    }
                    @for name in faults(runs) {
                        @for (index, entry) in entries(name, runs) {
                            tr {
                                td { (name) }
                                @if several { td { (swatch(index)) (runs[index].0) } }
                                (figures(&entry.summary, entry.requested, deadline))
                                @if several { td.n { (ratio(&entry.summary, ours(name, runs), deadline)) } }
                                (errors(&entry.samples))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The fault in each run that has samples of it, with the run's place. A run alone shows that it has
/// none.
fn entries<'a>(name: &str, runs: &[Run<'a>]) -> Vec<(usize, &'a FaultReport)> {
    let several = runs.len() > 1;
    let in_run = |(index, (_, report)): (usize, &Run<'a>)| {
        let mut faults = report.faults.iter();
        let entry = faults.find(|fault| fault.fault == name)?;
        (!several || entry.summary.count > 0).then_some((index, entry))
    };
    runs.iter().enumerate().filter_map(in_run).collect()
}

fn figures(summary: &Summary, requested: u32, deadline: Nanos) -> Markup {
    let all = summary.recovered >= requested;
    html! {
        td.n.bad[!all] { (summary.recovered) "/" (requested) }
        td.n { (figure(summary.p50_ns, summary, deadline)) }
        td.n { (p99(summary, deadline)) }
        td.n { (figure(summary.max_ns, summary, deadline)) }
    }
}

/// The first run's median.
fn ours(name: &str, runs: &[Run<'_>]) -> Option<Nanos> {
    let first = entries(name, runs.get(..1)?);
    first.first()?.1.summary.p50_ns
}

/// The largest errors against the host's clock before the faults and after the recoveries.
fn errors(samples: &[Sample]) -> Markup {
    html! {
        td.n { (error(samples.iter().map(|s| s.before))) }
        td.n { (error(samples.iter().map(|s| s.after))) }
    }
}

/// A fault's own part: both plots, and its slowest and failing samples.
///
/// # Errors
///
/// A plot can't be drawn.
pub fn fault(name: &str, runs: &[Run<'_>]) -> Result<Markup, PlotError> {
    let entries = entries(name, runs);
    let tolerance = runs
        .first()
        .map_or(Nanos::from_millis(1), |(_, report)| report.tolerance_ns);
    let traces: Vec<Series<&[TracePoint]>> = entries
        .iter()
        .map(|(index, entry)| Series {
            colour: *index,
            data: drawn(&entry.samples),
        })
        .collect();
    let shown: usize = traces.iter().map(|one| one.data.len()).sum();
    let times: Vec<Series<Nanos>> = entries
        .iter()
        .map(|(index, entry)| Series {
            colour: *index,
            data: sorted_times(&entry.samples),
        })
        .collect();
    let over_time = plot::error_over_time(&traces, tolerance)?;
    let distribution = plot::distribution(&times)?;
    let taken: usize = entries.iter().map(|(_, entry)| entry.samples.len()).sum();
    Ok(html! {
        section {
            h2 { (name) }
            div.plots {
                @if let Some(svg) = over_time {
                    figure {
                        div role="img" aria-label={ (name) ": error against time" } { (PreEscaped(svg)) }
                        figcaption {
                            "The error against the time since the fault, either way, of " (shown)
                            " of " (taken) " samples; the grey line is the tolerance, " (tolerance) "."
                        }
                    }
                }
                @if let Some(svg) = distribution {
                    figure {
                        div role="img" aria-label={ (name) ": share recovered against time" } {
                            (PreEscaped(svg))
                        }
                        figcaption { "The share of the samples that had recovered after each time." }
                    }
                }
            }
            @for (index, entry) in &entries {
                (samples::table(runs[*index].0, entry, runs.len() > 1))
            }
        }
    })
}

/// The traces to draw: all, or a choice spread evenly from the fastest to the slowest.
fn drawn(samples: &[Sample]) -> Vec<&[TracePoint]> {
    let mut traced: Vec<&Sample> = samples.iter().filter(|s| !s.trace.is_empty()).collect();
    traced.sort_by_key(|sample| sample.recovered_ns.unwrap_or(Nanos::MAX));
    let count = traced.len();
    if count <= TRACES_MAX {
        return traced.iter().map(|sample| &*sample.trace).collect();
    }
    (0..TRACES_MAX)
        .map(|index| index * (count - 1) / (TRACES_MAX - 1))
        .map(|index| &*traced[index].trace)
        .collect()
}

fn sorted_times(samples: &[Sample]) -> Vec<Nanos> {
    let mut times: Vec<Nanos> = samples.iter().map(Sample::time).collect();
    times.sort_unstable();
    times
}

/// What was not run, of every run.
pub fn not_run(runs: &[Run<'_>]) -> Markup {
    let gaps: Vec<(&str, &crate::report::NotRun)> = runs
        .iter()
        .flat_map(|(peer, report)| report.not_run.iter().map(move |gap| (*peer, gap)))
        .collect();
    html! {
        @if !gaps.is_empty() {
            section {
                h2 { "Not run" }
                ul {
                    @for (peer, gap) in gaps {
                        li {
                            @if runs.len() > 1 { (peer) ", " }
                            (gap.fault) ": " (gap.reason)
                        }
                    }
                }
            }
        }
    }
}

/// Where and with what it was measured.
pub fn environment(runs: &[Run<'_>]) -> Markup {
    let unknown = || "unknown".to_owned();
    html! {
        section {
            h2 { "Where it was measured" }
            @for (peer, report) in runs {
                @let at = &report.environment;
                @let host = &report.host;
                @if runs.len() > 1 { h3 { (peer) } }
                dl {
                    @if let Some(when) = report.evidence.measured_at {
                        dt { "when" } dd { (when.strftime("%Y-%m-%d %H:%M:%S UTC")) }
                    }
                    dt { "QEMU" } dd { (at.qemu) }
                    dt { "accelerator" } dd { (at.accelerator) " (" (at.accelerator_reason) ")" }
                    dt { "guest" } dd {
                        (at.kernel.clone().unwrap_or_else(unknown)) ", " (at.vcpus) " vCPUs, clocksource "
                        (at.clocksource.clone().unwrap_or_else(unknown))
                    }
                    dt { "source" } dd {
                        (at.source.as_ref().map_or_else(unknown, ToString::to_string))
                        @for source in &report.sources {
                            @if let Some(why) = &source.last_failure {
                                br; (source.source) ": " (why)
                            }
                        }
                    }
                    dt { "host" } dd {
                        (host.cpu.clone().unwrap_or_else(unknown))
                        @if let Some(cpus) = host.cpus { ", " (cpus) " processors" }
                        ", Linux " (host.kernel.clone().unwrap_or_else(unknown))
                        @if let Some(by) = &host.emulated {
                            br; "KVM (" (by.kvm) ") under emulation, by QEMU " (by.qemu)
                            " on Linux " (by.kernel.clone().unwrap_or_else(unknown))
                            ", " (by.cpu.clone().unwrap_or_else(unknown))
                        }
                        @if let Some(exits) = report.boot_exits {
                            br; (exits.all) " VM exits from QEMU's start to the first sync"
                        }
                        @if let Some(share) = host.qemu_waited_share {
                            br; "QEMU waited for a processor during "
                            (format!("{:.1}", share * 100.0)) " % of the time"
                        }
                    }
                    @if let Some(boot) = &report.boot {
                        dt { "boot" } dd {
                            "kernel to PID 1 " (boot.kernel_to_init_ns) ", from there to the first sync "
                            (time(boot.init_to_synced_ns))
                        }
                    }
                    @if let (Some(error), Some(limit)) = (report.synced, report.error_limit_ns) {
                        dt { "error against the host before the first fault" }
                        dd { (error) ", at most " (limit) " passes" }
                    }
                    dt { "tolerance" } dd { (report.tolerance_ns) }
                    dt { "seed" } dd { (report.seed) }
                    dt { "noonmark" } dd { (report.noonmark) }
                    @for (of, hash) in report.evidence.hashes() {
                        dt { (of) } dd { code { (hash) } }
                    }
                }
            }
        }
    }
}
