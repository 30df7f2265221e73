//! The guest's clock against the host's: what an experiment holds to be the truth, and how that is
//! judged. None of it comes from the program that keeps the clock.

use std::fmt;

use noonmark_contract::sample::{Method, Source};
use noonmark_contract::testport::HostError;
use noonmark_contract::units::Nanos;
use serde::{Deserialize, Serialize};

/// What the error of a guest is held to that reads the host's clock by `PTP_SYS_OFFSET_PRECISE`.
pub const PRECISE_LIMIT: Nanos = Nanos::from_micros(1);

/// By how many times the experiment's tolerance the error of any other guest is limited. An exchange with
/// a guest under plain emulation, on a machine with ten times the work that it has processors for, was
/// right to 0.5 ms at best and to 1.9 ms in half of all cases: half of the limit has to be beyond that,
/// or only an idle machine could judge.
const EXCHANGE_FACTOR: i64 = 5;

/// Who measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredBy {
    /// The observer in the guest, by the guest's own counter, or by ptp_kvm.
    #[default]
    Observer,
    /// The host, which compares the guest's time with its own.
    Host,
}

/// How far the guest's clock is from the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockError {
    /// Guest minus host; positive where the guest is ahead.
    pub error_ns: Nanos,
    /// How far the measurement itself may be wrong.
    pub bound_ns: Nanos,
    /// The observer by its own readings of ptp_kvm; or the host by an exchange with the guest, where
    /// the guest has no such device.
    #[serde(default, skip_serializing_if = "MeasuredBy::is_observer")]
    pub measured_by: MeasuredBy,
}

/// What a measurement of the error proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The clock is certainly within the limit.
    Within,
    /// It may be beyond the limit.
    Beyond,
    /// The measurement's bound is more than half of the limit, so that it proves neither.
    Unclear,
}

impl MeasuredBy {
    fn is_observer(&self) -> bool {
        *self == Self::Observer
    }
}

impl ClockError {
    /// The largest error, either way, that the clock can have.
    #[must_use]
    pub fn worst(&self) -> Nanos {
        self.error_ns.abs() + self.bound_ns
    }

    /// Holds it against a limit: error and bound together must not exceed it. As the bound is at
    /// most half of the limit, a clock without any error is always found within it, and one beyond
    /// it never.
    #[must_use]
    pub fn judge(&self, limit: Nanos) -> Finding {
        if self.bound_ns > bound_wanted(limit) {
            Finding::Unclear
        } else if self.worst() > limit {
            Finding::Beyond
        } else {
            Finding::Within
        }
    }
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ± {}", self.error_ns, self.bound_ns)
    }
}

impl From<HostError> for ClockError {
    fn from(seen: HostError) -> Self {
        Self {
            error_ns: seen.error_ns,
            bound_ns: seen.bound_ns,
            measured_by: MeasuredBy::Observer,
        }
    }
}

/// The largest bound with which an error may be judged against this limit.
#[must_use]
pub fn bound_wanted(limit: Nanos) -> Nanos {
    Nanos(limit.0 / 2)
}

/// What the error is held to where nothing else was asked for. A guest that reads the host's clock
/// by PRECISE knows it to some nanoseconds, and so does the observer. Any other source is known to
/// its own bound at best, and the host's exchanges with the guest to half a round trip: there it is
/// five times the experiment's tolerance.
#[must_use]
pub fn default_limit(source: Option<&Source>, method: Option<Method>, tolerance: Nanos) -> Nanos {
    match (source, method) {
        (Some(Source::Kvm), Some(Method::Precise)) => PRECISE_LIMIT,
        _ => Nanos(tolerance.0.saturating_mul(EXCHANGE_FACTOR)),
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::exchanged as error;

    use super::*;

    #[test]
    fn a_clock_passes_only_where_it_is_certainly_right() {
        let limit = Nanos(1_000);
        assert_eq!(error(-500, 500).judge(limit), Finding::Within);
        assert_eq!(error(-501, 500).judge(limit), Finding::Beyond);
        assert_eq!(error(990, 10).judge(limit), Finding::Within);
        assert_eq!(error(0, 501).judge(limit), Finding::Unclear);
        assert_eq!(error(30_000_000, 501).judge(limit), Finding::Unclear);
    }

    /// What is measured of a clock without error is off by at most the bound.
    #[test]
    fn no_measurement_that_is_good_enough_condemns_a_right_clock() {
        for bound in 0..=500 {
            assert_eq!(error(-bound, bound).judge(Nanos(1_000)), Finding::Within);
        }
    }

    #[test]
    fn only_who_reads_the_host_s_clock_precisely_is_held_to_a_microsecond() {
        let limit = |source, method| default_limit(source, method, Nanos::from_millis(1));
        let precise = limit(Some(&Source::Kvm), Some(Method::Precise));
        assert_eq!(precise, Nanos::from_micros(1));
        for (source, method) in [
            (Some(&Source::Kvm), Some(Method::Offset)),
            (Some(&Source::Host), Some(Method::RoundTrip)),
            (None, None),
        ] {
            assert_eq!(limit(source, method), Nanos::from_millis(5), "{source:?}");
        }
    }

    #[test]
    fn what_an_earlier_version_wrote_is_the_observer_s() {
        let old: ClockError = serde_json::from_str(r#"{"error_ns":-7,"bound_ns":10}"#).unwrap();
        assert_eq!(old.measured_by, MeasuredBy::Observer);
        let text = serde_json::to_string(&error(1, 2)).unwrap();
        assert_eq!(text, r#"{"error_ns":1,"bound_ns":2,"measured_by":"host"}"#);
    }
}
