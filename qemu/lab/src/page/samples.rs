//! The page's tables of single samples: those that failed, and the slowest.

use maud::{Markup, html};
use noonmark_contract::units::Nanos;

use crate::report::{FaultReport, Sample};
use crate::text::words::{error, time, word};

/// So many samples of a fault are listed; the JSON has them all.
const LISTED_MAX: usize = 20;

/// The samples of one fault in one run, worst first, folded away.
pub fn table(peer: &str, fault: &FaultReport, several: bool) -> Markup {
    let mut worst: Vec<&Sample> = fault.samples.iter().collect();
    worst.sort_by_key(|sample| {
        let time = sample.recovered_ns.unwrap_or(Nanos::MAX);
        (sample.violations.is_empty(), std::cmp::Reverse(time))
    });
    let listed = worst.len().min(LISTED_MAX);
    html! {
        @if listed > 0 {
            details {
                summary {
                    @if several { (peer) ": " }
                    "the " (listed) " worst of " (worst.len()) " samples"
                }
                div.wide {
                    table {
                        thead { tr {
                            th.n { "no." } th.n { "recovered" } th.n { "QEMU waited" } th.n { "wrong reads" }
                            th.n { "error before" } th.n { "error after" } th { "detected by" } th { "cause" } th { "do it again" }
                        } }
                        tbody {
                            @for sample in &worst[..listed] { (row(sample)) }
                        }
                    }
                }
            }
        }
    }
}

fn row(sample: &Sample) -> Markup {
    let unknown = || "-".to_owned();
    html! {
        tr {
            td.n { (sample.number) }
            td.n.bad[sample.recovered_ns.is_none()] { (time(sample.recovered_ns)) }
            td.n { (time(sample.waited_ns)) }
            td.n { (sample.wrong_reads) }
            td.n { (error([sample.before].into_iter())) }
            td.n { (error([sample.after].into_iter())) }
            td { (sample.detected_by.as_ref().map_or_else(unknown, word)) }
            td {
                (sample.cause.as_ref().map_or_else(unknown, word))
                @for violation in &sample.violations {
                    br; strong.bad { (violation) }
                }
            }
            td { code { (sample.replay) } }
        }
    }
}
