//! Whether the clock was right by the host's before a fault and after the recovery.

use noonmark_contract::units::Nanos;

use crate::report::Sample;
use crate::report::error::{ClockError, Finding};

/// When the error of a sample's clock was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

impl When {
    fn error(self, sample: &Sample) -> Option<ClockError> {
        match self {
            Self::Before => sample.before,
            Self::After => sample.after,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Before => "before the fault",
            Self::After => "after the recovery",
        }
    }
}

/// What is wrong with the clock's error against the host's at that time, and in which samples. Those
/// that have no limit are of a version that measured no such thing. A clock that did not recover is
/// told as that.
pub(crate) fn errors(
    samples: &[Sample],
    when: When,
    asked: Option<Nanos>,
) -> Vec<(String, Vec<&Sample>)> {
    let mut beyond: Vec<&Sample> = Vec::new();
    let mut unclear: Vec<&Sample> = Vec::new();
    let mut limits = Nanos::ZERO;
    for sample in samples {
        let Some(limit) = asked.or(sample.error_limit_ns) else {
            continue;
        };
        if when == When::After && sample.recovered_ns.is_none() {
            continue;
        }
        match when.error(sample).map(|error| error.judge(limit)) {
            Some(Finding::Within) => continue,
            Some(Finding::Beyond) => beyond.push(sample),
            Some(Finding::Unclear) | None => unclear.push(sample),
        }
        limits = limits.max(limit);
    }
    let when_words = when.words();
    let largest = |samples: &[&Sample], size: fn(&ClockError) -> Nanos| {
        let errors = samples.iter().filter_map(|sample| when.error(sample));
        errors.max_by_key(size)
    };
    let mut found = Vec::new();
    if let Some(worst) = largest(&beyond, ClockError::worst) {
        let why = format!(
            "had a clock off from the host's by more than {limits} {when_words} (the worst {worst})"
        );
        found.push((why, beyond));
    }
    if !unclear.is_empty() {
        let bound = largest(&unclear, |error| error.bound_ns);
        let bound = bound.map_or_else(
            || "it was not measured".to_owned(),
            |error| format!("the largest bound is {}", error.bound_ns),
        );
        let why = format!(
            "had an error {when_words} that was not measured well enough to be held to {limits} ({bound})"
        );
        found.push((why, unclear));
    }
    found
}
