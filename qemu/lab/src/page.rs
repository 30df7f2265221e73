//! The report as a page: one file that needs no network, script or font of its own.

mod axes;
mod bench;
mod parts;
mod plot;
mod samples;
mod series;

use maud::{DOCTYPE, PreEscaped, html};
use noonmark_contract::units::Nanos;

use crate::report::Report;
use crate::report::document::Document;
use crate::report::gate::Verdict;
pub use plot::PlotError;

/// Colours for a light and for a dark background, and widths down to a phone's.
const STYLE: &str = include_str!("page/style.css");

/// The document's page.
///
/// # Errors
///
/// A plot can't be drawn.
pub fn render(document: &Document) -> Result<String, PlotError> {
    let runs = document.runs();
    let (bench, title) = match document {
        Document::Report(_) => (None, "noonmark: recovery of a guest's clock"),
        Document::Bench(bench) => {
            let title = "noonmark and its peers: recovery of a guest's clock";
            (Some(bench), title)
        }
    };
    let deadline = bench.map_or(Nanos::ZERO, |bench| bench.deadline_ns);
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
                    // A bench can have been asked for other things than faults.
                    @if bench.is_none() || !parts::faults(&runs).is_empty() { (verdict(ours)) }
                    (parts::load(ours))
                }
                (parts::legend(&runs))
                @if !parts::faults(&runs).is_empty() { (parts::overview(&runs, deadline)) }
                @if let Some(bench) = bench {
                    @for gap in &bench.missing {
                        p.note { strong { (gap.peer) } " was not run: " (gap.reason) }
                    }
                    (bench::recoveries(bench, &runs)?)
                    (bench::steady(bench)?)
                    (bench::boots(bench))
                }
                (series::sections(&runs)?)
                @for fault in parts::faults(&runs) {
                    (parts::fault(fault, &runs)?)
                }
                (parts::not_run(&runs))
                (parts::environment(&runs))
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
                @if let Some(limit) = report.held_to() {
                    ", the error against the host within " (limit) " before and after"
                }
                @if report.limits != Default::default() { " and within the limits" }
            },
            Verdict::Failed { .. } => div.verdict.failed {
                @let (recovered, of) = report.recovered();
                strong { "failed: " }
                (recovered) " of " (of) " recovered"
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
    use noonmark_contract::testport::TracePoint;
    use noonmark_contract::units::Nanos;

    use crate::fixture;
    use crate::report::bench::{Bench, FirstRead, MissingPeer, PeerRun};
    use crate::report::steady::{Cost, SteadyState};
    use crate::report::{NotRun, Summary};

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
        assert_eq!(
            page.matches("<svg").count(),
            3,
            "one of each kind for both, and one of all samples"
        );
    }

    #[test]
    fn what_a_bench_measured_besides_has_tables_and_plots_too() {
        let steady = |rms_ns, cpu_ppm, bounds_ns| SteadyState {
            span_ns: Nanos::from_secs(60),
            rms_ns,
            keeper: Some(Cost {
                cpu_ppm,
                rss_kib: 900,
            }),
            offsets_ns: vec![Nanos(2), Nanos(-3)],
            bounds_ns,
            ..SteadyState::default()
        };
        let mut ours = PeerRun::new("noonmark", "0.1.0", traced());
        ours.steady = Some(steady(1.3, 15_000, vec![Some(Nanos(190)); 2]));
        let mut report = traced();
        for sample in &mut report.faults[0].samples {
            sample.recovered_ns = None;
        }
        report.faults[0].summary = Summary::of(&report.faults[0].samples);
        let mut peer = PeerRun::new("chronyd", "4.3", report);
        peer.steady = Some(steady(3.5, 1_800, Vec::new()));
        peer.boots = vec![FirstRead {
            error_ns: Nanos::from_secs(800_000_000),
            at_ns: Nanos::from_secs(3),
            right_at_ns: Some(Nanos::from_secs(7)),
        }];
        let bench = Bench {
            deadline_ns: Nanos::from_secs(15),
            ..Bench::new(vec![ours, peer], vec![])
        };
        let page = render(&Document::Bench(bench)).unwrap();
        for part in [
            "&gt; 15.000 s",
            "A clock that nobody disturbs",
            "2/2 of 190 ns",
            "0.18 %",
            "800000000.000 s",
            "4.000 s",
        ] {
            assert!(page.contains(part), "no `{part}`");
        }
        assert_eq!(page.matches("<svg").count(), 5);
    }

    #[test]
    fn what_could_not_be_done_to_a_peer_is_no_failure_of_it() {
        let mut refused = traced();
        refused.faults[0].samples.clear();
        refused.faults[0].summary = Summary::of(&[]);
        refused.not_run = vec![NotRun {
            fault: "step:-1h".into(),
            reason: "its guest refuses".into(),
        }];
        let ours = PeerRun::new("noonmark", "0.1.0", traced());
        let peer = PeerRun::new("chronyd", "4.3", refused);
        let bench = Bench {
            deadline_ns: Nanos::from_secs(15),
            ..Bench::new(vec![ours, peer], vec![])
        };
        let page = render(&Document::Bench(bench)).unwrap();
        assert!(!page.contains("&gt; 15.000 s") && !page.contains("0/2"));
        assert!(page.contains("chronyd, step:-1h: its guest refuses"));
    }

    #[test]
    fn a_bench_without_faults_says_nothing_of_them() {
        let mut report = fixture::report();
        report.first = None;
        report.faults.clear();
        let bench = Bench::new(vec![PeerRun::new("noonmark", "0.1.0", report)], vec![]);
        let page = render(&Document::Bench(bench)).unwrap();
        assert!(!page.contains("no sample was taken"));
        assert_eq!(page.matches("<svg").count(), 0);
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
