//! The report as a page: one file that needs no network, script or font of its own.

mod page;
mod plot;
mod samples;

use maud::{DOCTYPE, PreEscaped, html};

use super::document::Document;
use super::gate::Verdict;
use super::report::Report;
pub use plot::PlotError;

/// Colours for a light and for a dark background, and widths down to a phone's.
const STYLE: &str = include_str!("html/style.css");

/// The document's page.
///
/// # Errors
///
/// A plot can't be drawn.
pub fn render(document: &Document) -> Result<String, PlotError> {
    let runs = document.runs();
    let missing = match document {
        Document::Report(_) => &[][..],
        Document::Bench(bench) => &bench.missing,
    };
    let title = match document {
        Document::Report(_) => "noonmark: recovery of a guest's clock",
        Document::Bench(_) => "noonmark and its peers: recovery of a guest's clock",
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                @if let Some((_, ours)) = runs.first() {
                    (verdict(ours))
                    (page::load(ours))
                }
                (page::legend(&runs))
                (page::overview(&runs))
                @for peer in missing {
                    p.note { strong { (peer.peer) } " was not run: " (peer.reason) }
                }
                @for fault in page::faults(&runs) {
                    (page::fault(fault, &runs)?)
                }
                (page::not_run(&runs))
                (page::environment(&runs))
            }
        }
    };
    Ok(page.into_string())
}

/// Whether the run passed, and if not, why, with the commands that do the failing samples again.
fn verdict(report: &Report) -> maud::Markup {
    html! {
        @match report.verdict() {
            Verdict::Passed { samples } => p.verdict.passed {
                strong { "passed: " }
                (samples) " of " (samples) " recovered within " (report.max_recovery_ns)
                @if report.limits != Default::default() { " and within the limits" }
            },
            Verdict::Failed { .. } => div.verdict.failed {
                strong { "failed" }
                ul {
                    @for failure in report.failures() {
                        li {
                            (failure.reason)
                            @for replay in failure.replays {
                                br; "do it again: " code { (replay) }
                            }
                        }
                    }
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use noonmark_sync::testport::TracePoint;
    use noonmark_sync::units::Nanos;

    use super::super::bench::{Bench, MissingPeer, PeerRun};
    use super::super::fixture;
    use super::*;

    fn traced() -> Report {
        let mut report = fixture::report();
        for sample in &mut report.faults[0].samples {
            sample.replay = "cargo xtask recover --fault step:-1h".into();
            sample.trace = [
                (1_000, -3_600_000_000_000),
                (600_000, -3_600_000_000_000),
                (700_000, 50),
            ]
            .map(|(at, error)| TracePoint {
                at: Nanos(at),
                error: Nanos(error),
            })
            .to_vec();
        }
        report
    }

    fn page(report: Report) -> String {
        render(&Document::Report(Box::new(report))).unwrap()
    }

    #[test]
    fn a_page_has_the_verdict_the_figures_and_both_plots() {
        let page = page(traced());
        for part in [
            "passed: ",
            "step:-1h",
            "612.000 us",
            "20.500 ms",
            "6.1.0-56-cloud-amd64",
            "error against the time since the fault",
            "share of the samples that had recovered",
        ] {
            assert!(page.contains(part), "no `{part}`");
        }
        assert_eq!(page.matches("<svg").count(), 2);
    }

    #[test]
    fn a_page_fetches_nothing() {
        let page = page(traced());
        for word in ["src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(word), "{word}");
        }
        // SVG's name space is a name, no address.
        let addresses = page.matches("http").count();
        assert_eq!(
            addresses,
            page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count()
        );
    }

    #[test]
    fn what_a_guest_says_cannot_become_markup() {
        let mut report = traced();
        report.environment.kernel = Some("<script>alert(1)</script>".into());
        report.sources[0].last_failure = Some("</style><b>".into());
        let page = page(report);
        assert!(!page.contains("<script>") && !page.contains("</style><b>"));
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn a_failing_sample_is_told_with_the_command_that_does_it_again() {
        let mut report = traced();
        report.faults[0].samples[0].recovered_ns = None;
        let page = page(report);
        assert!(page.contains("1 of 2 did not recover"));
        assert!(page.contains("do it again: <code>cargo xtask recover --fault step:-1h</code>"));
    }

    #[test]
    fn peers_stand_beside_each_other_with_a_legend_and_the_missing_ones_are_named() {
        let mut slower = traced();
        for sample in &mut slower.faults[0].samples {
            sample.recovered_ns = Some(Nanos::from_secs(5));
        }
        let runs = [("noonmark", traced()), ("chronyd poll 1", slower)];
        let runs = runs.map(|(peer, report)| PeerRun::new(peer, "4.3", report));
        let missing = vec![MissingPeer {
            peer: "phc2sys".into(),
            reason: "there is no package linuxptp".into(),
        }];
        let bench = Bench::new(runs.into(), missing);
        let page = render(&Document::Bench(bench)).unwrap();
        for part in [
            "chronyd poll 1",
            "there is no package linuxptp",
            "#0072B2",
            "#D55E00",
        ] {
            assert!(page.contains(part), "no `{part}`");
        }
        assert_eq!(page.matches("<svg").count(), 2, "one of each kind for both");
    }

    #[test]
    fn a_report_without_samples_has_a_page() {
        let mut report = fixture::report();
        report.first = None;
        report.faults.clear();
        let page = page(report);
        assert!(page.contains("no sample was taken"));
        assert_eq!(page.matches("<svg").count(), 0);
    }
}
