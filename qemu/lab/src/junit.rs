//! The report as JUnit XML, which CI systems show as a list of tests: each fault is one.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use crate::report::Report;
use crate::report::gate::Failure;
use crate::text::environment;

/// What JUnit XML can't be made of.
#[derive(Debug, thiserror::Error)]
#[error("cannot write JUnit XML: {0}")]
pub struct JunitError(#[from] quick_junit::SerializeError);

/// The report's XML: one suite, with a case for each fault that was asked for, and one for what is
/// of no single fault. The time of a case is its longest recovery.
///
/// # Errors
///
/// The library can't write it.
pub fn render(report: &Report) -> Result<String, JunitError> {
    let failures = report.failures();
    let mut suite = TestSuite::new("recover");
    suite.set_system_out(environment(report));
    for (key, value) in [
        ("noonmark", report.noonmark.clone()),
        ("seed", report.seed.to_string()),
    ] {
        suite.add_property((key, value.as_str()));
    }
    for (of, hash) in report.evidence.hashes() {
        suite.add_property((&*format!("sha256 of {of}"), hash));
    }
    for fault in &report.faults {
        let mut case = case(&fault.fault, &failures);
        case.set_classname(format!("recover.{}", fault.family));
        if let Some(max) = fault.summary.max_ns {
            case.set_time(std::time::Duration::from_nanos(max.0.unsigned_abs()));
        }
        suite.add_test_case(case);
    }
    for gap in &report.not_run {
        // One that was begun has its case already, with this among its failures.
        if !report.faults.iter().any(|fault| fault.fault == gap.fault) {
            suite.add_test_case(case(&gap.fault, &failures));
        }
    }
    for failure in failures.iter().filter(|failure| failure.fault.is_none()) {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(failure.reason.as_str());
        suite.add_test_case(TestCase::new("the run", status));
    }
    let mut document = quick_junit::Report::new("noonmark");
    document.add_test_suite(suite);
    Ok(document.to_string()?)
}

fn case(fault: &str, failures: &[Failure]) -> TestCase {
    let own: Vec<&Failure> = failures
        .iter()
        .filter(|failure| failure.fault.as_deref() == Some(fault))
        .collect();
    let Some(first) = own.first() else {
        return TestCase::new(fault, TestCaseStatus::success());
    };
    let mut text = String::new();
    for failure in &own {
        text.push_str(&failure.reason);
        text.push('\n');
        for replay in &failure.replays {
            text.push_str(&format!("  again: {replay}\n"));
        }
    }
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status
        .set_message(first.reason.as_str())
        .set_description(text);
    TestCase::new(fault, status)
}

#[cfg(test)]
mod tests {
    use crate::fixture;
    use crate::report::NotRun;

    use super::*;

    #[test]
    fn ci_reads_this() {
        let mut report = fixture::report();
        report.first = None;
        report.faults.push(fixture::fault("step:+1h", &[700, 800]));
        report.faults[0].samples[1].recovered_ns = None;
        report.faults[0].samples[1].replay = "cargo xtask recover --fault step:-1h".into();
        report.not_run.push(NotRun {
            fault: "migrate".into(),
            reason: "QEMU went down".into(),
        });
        report.evidence.qemu_sha256 = Some("12ab".into());
        let expected = include_str!("junit/golden.xml");
        let written = render(&report).unwrap();
        assert_eq!(written, expected, "{written}");
    }

    #[test]
    fn what_a_guest_says_stays_text() {
        let mut report = fixture::report();
        report.environment.kernel = Some("</system-out><x a=\"1\">&\u{1b}[31m\u{0}".into());
        let written = render(&report).unwrap();
        assert!(!written.contains("<x a"), "{written}");
        assert!(!written.contains(['\u{1b}', '\u{0}']), "{written}");
    }
}
