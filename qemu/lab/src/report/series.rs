//! The guest's clock against the host's over time: what the host does to its own clock, or what a
//! program in the host that keeps it does, and what the guest makes of that.

use noonmark_contract::testport::ErrorPoint;
use noonmark_contract::units::Nanos;
use serde::{Deserialize, Serialize};

use super::error::{ClockError, Finding, MeasuredBy};

/// One recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorSeries {
    /// What was done, or how the host was: a fault's name, or words such as `host with chronyd`.
    /// Series of the same name are shown together, whoever kept the clock.
    pub name: String,
    /// Which of several recordings of that name, from 1.
    pub number: u32,
    /// The readings in order; each is at a time since the fault, or since the recording began.
    pub points: Vec<ErrorPoint>,
    /// Readings that failed, or came after the recording was full.
    pub missing: u32,
    /// What every error has to be within from `judged_from_ns` on; none where the series is shown
    /// and not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_ns: Option<Nanos>,
    /// From when on.
    #[serde(default)]
    pub judged_from_ns: Nanos,
    /// What else is to be known of it, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl ErrorSeries {
    /// The largest error from an instant on, either way; none where there is no reading.
    #[must_use]
    pub fn largest_from(&self, from: Nanos) -> Option<Nanos> {
        let since = self.points.iter().filter(|point| point.at >= from);
        since.map(|point| point.error.abs()).max()
    }

    /// The last reading.
    #[must_use]
    pub fn last(&self) -> Option<ClockError> {
        self.points.last().map(measured)
    }

    /// The first reading from which on every one proves the clock to be within `limit`; none where
    /// the last one does not.
    #[must_use]
    pub fn within_since(&self, limit: Nanos) -> Option<Nanos> {
        let outside = |point: &ErrorPoint| measured(point).judge(limit) != Finding::Within;
        let from = self.points.iter().rposition(outside);
        let first = self.points.get(from.map_or(0, |at| at + 1))?;
        Some(first.at)
    }

    /// What is wrong with it, in words; nothing where it is not judged.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let limit = self.limit_ns?;
        let from = self.judged_from_ns;
        let judged: Vec<&ErrorPoint> = self.points.iter().filter(|p| p.at >= from).collect();
        if judged.is_empty() {
            return Some("the error was not measured".to_owned());
        }
        if self.missing > 0 {
            return Some(format!("{} readings are missing", self.missing));
        }
        let of = judged.len();
        let found = |wanted: Finding| {
            let all = judged.iter().filter(|p| measured(p).judge(limit) == wanted);
            all.count()
        };
        match (found(Finding::Unclear), found(Finding::Beyond)) {
            (0, 0) => None,
            (0, beyond) => {
                let largest = self.largest_from(from).unwrap_or_default();
                Some(format!(
                    "{beyond} of {of} readings are beyond {limit}, the largest {largest}"
                ))
            }
            (unclear, _) => Some(format!(
                "{unclear} of {of} readings were not measured well enough to be held to {limit}"
            )),
        }
    }
}

/// A point as a measurement: it is the observer's own.
fn measured(point: &ErrorPoint) -> ClockError {
    ClockError {
        error_ns: point.error,
        bound_ns: point.bound,
        measured_by: MeasuredBy::Observer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings ten milliseconds apart, with a bound of 10 ns.
    fn series(errors: &[i64]) -> ErrorSeries {
        let point = |(index, &error): (usize, &i64)| ErrorPoint {
            at: Nanos::from_millis(10 * index as i64),
            error: Nanos(error),
            bound: Nanos(10),
        };
        ErrorSeries {
            name: "host-step:+3s".into(),
            number: 1,
            points: errors.iter().enumerate().map(point).collect(),
            ..ErrorSeries::default()
        }
    }

    #[test]
    fn a_clock_is_right_from_the_reading_on_after_which_none_is_beyond() {
        let limit = Nanos(1_000);
        let right_since = |errors: &[i64]| series(errors).within_since(limit);
        assert_eq!(right_since(&[5, -7]), Some(Nanos::ZERO));
        let repaired = [5, -3_000_000_000, 5, 991, 990];
        assert_eq!(right_since(&repaired), Some(Nanos::from_millis(40)));
        assert_eq!(right_since(&[5, 2_000]), None);
        assert_eq!(right_since(&[]), None);
        let largest = series(&repaired).largest_from(Nanos::from_millis(20));
        assert_eq!(largest, Some(Nanos(991)));
    }

    #[test]
    fn only_a_series_with_a_limit_can_fail_and_only_from_where_it_is_judged() {
        let mut series = series(&[9_000, 5, 2_000, -7]);
        assert_eq!(series.failure(), None);
        series.limit_ns = Some(Nanos(1_000));
        series.judged_from_ns = Nanos::from_millis(10);
        let why = series.failure().unwrap();
        assert_eq!(
            why,
            "1 of 3 readings are beyond 1.000 us, the largest 2.000 us"
        );
        series.judged_from_ns = Nanos::from_millis(30);
        assert_eq!(series.failure(), None);
        series.missing = 2;
        assert!(series.failure().unwrap().contains("2 readings are missing"));
        series.missing = 0;
        series.points[3].bound = Nanos(501);
        let why = series.failure().unwrap();
        assert!(
            why.starts_with("1 of 1 readings were not measured"),
            "{why}"
        );
        series.points.clear();
        assert!(series.failure().unwrap().contains("not measured"));
    }
}
