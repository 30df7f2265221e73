//! The page's parts that only a bench has: everybody's recoveries in one picture, the steady state, and
//! the boots with a wrong RTC.

use maud::{Markup, PreEscaped, html};
use noonmark_contract::units::Nanos;

use crate::report::Report;
use crate::report::bench::{Bench, PeerRun};
use crate::report::steady::SteadyState;
use crate::text::words::{NOTHING_TO_SAY, bound, cpu, fine, observer, resident, time};

use super::parts::{self, Run, swatch};
use super::plot::{self, PlotError, Row, Series, Worth};

/// All samples of all faults and keepers in one plot.
///
/// # Errors
///
/// The plot can't be drawn.
pub fn recoveries(bench: &Bench, runs: &[Run<'_>]) -> Result<Markup, PlotError> {
    let rows: Vec<Row<'_>> = parts::faults(runs)
        .into_iter()
        .map(|name| Row {
            name,
            series: times(name, runs.iter().map(|(_, report)| *report)),
        })
        .filter(|row| !row.series.is_empty())
        .collect();
    if rows.is_empty() {
        return Ok(html! {});
    }
    let plot = plot::recoveries(&rows, bench.deadline_ns)?;
    Ok(html! {
        @if let Some(svg) = plot {
            figure {
                div role="img" aria-label="every sample's time to recover" { (PreEscaped(svg)) }
                figcaption {
                    "Every sample's time to recover. A cross at the right edge: not within "
                    (bench.deadline_ns) "."
                }
            }
        }
    })
}

fn times<'a>(name: &str, reports: impl Iterator<Item = &'a Report>) -> Vec<Series<Nanos>> {
    let series = |(colour, report): (usize, &Report)| {
        let entry = report.faults.iter().find(|fault| fault.fault == name)?;
        let times = entry
            .samples
            .iter()
            .map(|s| s.recovered_ns.unwrap_or(Nanos::MAX));
        let data: Vec<Nanos> = times.collect();
        (!data.is_empty()).then_some(Series { colour, data })
    };
    reports.enumerate().filter_map(series).collect()
}

/// How well undisturbed clocks are kept, and what that costs; nothing where nobody looked.
///
/// # Errors
///
/// A plot can't be drawn.
pub fn steady(bench: &Bench) -> Result<Markup, PlotError> {
    let states: Vec<(usize, &PeerRun, &SteadyState)> = bench
        .runs
        .iter()
        .enumerate()
        .filter_map(|(index, run)| Some((index, run, run.steady.as_ref()?)))
        .collect();
    if states.is_empty() {
        return Ok(html! {});
    }
    let worth: Vec<Worth> = states
        .iter()
        .filter_map(|(colour, _, state)| {
            Some(Worth {
                colour: *colour,
                cpu_ppm: state.keeper?.cpu_ppm,
                rms_ns: state.rms_ns,
            })
        })
        .collect();
    let errors: Vec<Series<Nanos>> = states
        .iter()
        .map(|(colour, _, state)| {
            let mut data: Vec<Nanos> = state.offsets_ns.iter().map(|one| one.abs()).collect();
            data.sort_unstable();
            Series {
                colour: *colour,
                data,
            }
        })
        .collect();
    let (worth, errors) = (plot::worth(&worth)?, plot::errors(&errors)?);
    Ok(html! {
        section {
            h2 { "A clock that nobody disturbs" }
            (steady_table(&states))
            @for (_, run, state) in &states {
                @if let Some(words) = observer(state) {
                    p.note { (run.peer) ": " (words) "." }
                }
            }
            div.plots {
                @if let Some(svg) = worth {
                    figure {
                        div role="img" aria-label="error against cost" { (PreEscaped(svg)) }
                        figcaption { "The clock's error against what keeping it costs; low and left is good." }
                    }
                }
                @if let Some(svg) = errors {
                    figure {
                        div role="img" aria-label="distribution of the errors" { (PreEscaped(svg)) }
                        figcaption { "The share of the readings in which the error was at most so large." }
                    }
                }
            }
        }
    })
}

fn steady_table(states: &[(usize, &PeerRun, &SteadyState)]) -> Markup {
    let unknown = || NOTHING_TO_SAY.to_owned();
    html! {
        div.wide {
            table {
                thead { tr {
                    th { "kept by" } th.n { "for" } th.n { "readings" } th.n { "RMS" } th.n { "max" }
                    th.n { "within its bound" } th.n { "CPU of a vCPU" } th.n { "resident" }
                } }
                tbody {
                    @for (index, run, state) in states {
                        @let broken = state.bound_kept().is_some_and(|kept| kept.beyond > 0);
                        tr {
                            td { (swatch(*index)) (run.peer) }
                            td.n { (state.span_ns) }
                            td.n { (state.offsets_ns.len()) }
                            td.n { (fine(state.rms_ns)) }
                            td.n { (state.max_ns) }
                            td.n.bad[broken] { (bound(state).unwrap_or_else(unknown)) }
                            td.n { (state.keeper.as_ref().map_or_else(unknown, cpu)) }
                            td.n { (state.keeper.as_ref().map_or_else(unknown, resident)) }
                        }
                    }
                }
            }
        }
    }
}

/// What programs read that were started at boot, with the RTC years off; nothing where nobody
/// looked.
pub fn boots(bench: &Bench) -> Markup {
    if bench.runs.iter().all(|run| run.boots.is_empty()) {
        return html! {};
    }
    html! {
        section {
            h2 { "The first read after a boot with the RTC years off" }
            div.wide {
                table {
                    thead { tr {
                        th { "kept by" } th.n { "boots" } th.n { "first read wrong" }
                        th.n { "largest error" } th.n { "right after, median" } th.n { "longest" }
                    } }
                    tbody {
                        @for (index, run) in bench.runs.iter().enumerate() {
                            @if let Some(figures) = run.first_reads() {
                                tr {
                                    td { (swatch(index)) (run.peer) }
                                    td.n { (figures.boots) }
                                    td.n.bad[figures.wrong > 0] { (figures.wrong) }
                                    td.n { (figures.largest) }
                                    td.n { (time(figures.median)) }
                                    td.n { (time(figures.longest)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
