//! The page's part for the guest's clock against the host's over time: a plot for each thing that was
//! done, with a line for each who kept the clock, and a table.

use maud::{Markup, PreEscaped, html};
use noonmark_contract::testport::ErrorPoint;
use noonmark_contract::units::Nanos;

use crate::report::error::PRECISE_LIMIT;
use crate::report::series::ErrorSeries;
use crate::text::series::{LATER, rows};
use crate::text::words::{NOTHING_TO_SAY, time};

use super::parts::{Run, swatch};
use super::plot::{self, PlotError, Series};

/// All of them; nothing where there are none.
///
/// # Errors
///
/// A plot can't be drawn.
pub fn sections(runs: &[Run<'_>]) -> Result<Markup, PlotError> {
    let all = rows(runs);
    if all.is_empty() {
        return Ok(html! {});
    }
    let groups: Vec<&[(&str, &ErrorSeries)]> = all
        .chunk_by(|(_, one), (_, next)| one.name == next.name)
        .collect();
    let plots = groups.iter().map(|group| plot(group, runs));
    let plots = plots.collect::<Result<Vec<_>, _>>()?;
    Ok(html! {
        section {
            h2 { "The guest's clock against the host's" }
            div.plots {
                @for (group, svg) in groups.iter().zip(plots) {
                    @if let (Some(svg), Some((_, first))) = (svg, group.first()) {
                        figure {
                            div role="img" aria-label={ (first.name) ": error against the host over time" } {
                                (PreEscaped(svg))
                            }
                            figcaption {
                                (first.name) ": the error against the host's clock, either way; the grey \
                                 line is " (PRECISE_LIMIT) "."
                            }
                        }
                    }
                }
            }
            (table(&all, runs))
        }
    })
}

fn plot(group: &[(&str, &ErrorSeries)], runs: &[Run<'_>]) -> Result<Option<String>, PlotError> {
    let lines: Vec<Series<&[ErrorPoint]>> = group
        .iter()
        .map(|(keeper, one)| Series {
            colour: place(keeper, runs),
            data: vec![&*one.points],
        })
        .collect();
    plot::error_over_seconds(&lines, PRECISE_LIMIT)
}

/// The run's place, which gives its colour.
fn place(keeper: &str, runs: &[Run<'_>]) -> usize {
    runs.iter()
        .position(|(name, _)| *name == keeper)
        .unwrap_or(0)
}

fn table(all: &[(&str, &ErrorSeries)], runs: &[Run<'_>]) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr {
                    th { "what" } th { "kept by" } th.n { "readings" } th.n { "largest" }
                    @for from in LATER { th.n { "from " (from) " on" } }
                    th.n { "at the end" } th.n { "within " (PRECISE_LIMIT) " from" }
                } }
                tbody {
                    @for (keeper, one) in all {
                        @let right = one.within_since(PRECISE_LIMIT);
                        tr {
                            td {
                                (one.name)
                                @if let Some(why) = one.failure() { br; strong.bad { (why) } }
                                @if !one.detail.is_empty() { br; (one.detail) }
                            }
                            td { (swatch(place(keeper, runs))) (keeper) }
                            td.n { (one.points.len()) }
                            td.n { (time(one.largest_from(Nanos(i64::MIN)))) }
                            @for from in LATER { td.n { (time(one.largest_from(from))) } }
                            td.n {
                                (one.last().map_or_else(|| NOTHING_TO_SAY.to_owned(), |error| error.to_string()))
                            }
                            td.n.bad[right.is_none()] {
                                (right.map_or_else(|| "never".to_owned(), |at| at.max(Nanos::ZERO).to_string()))
                            }
                        }
                    }
                }
            }
        }
    }
}
