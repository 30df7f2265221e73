//! Events in words: for the guest's console, for `status` and for `run`, the same everywhere.

use core::fmt::{self, Display, Formatter};

use crate::sample::Method;

use super::{Alert, Cause, DetectedBy, Event, ThawedBy, UtcUnknown};

impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Synced {
                source,
                method,
                offset_ns,
                bound_ns,
            } => write!(
                f,
                "first sync by {source} ({method}): {offset_ns} added, error at most {bound_ns}"
            ),
            Self::Disrupted {
                cause,
                detected_by,
                offset_ns,
            } => write!(
                f,
                "disrupted: {cause}, seen by {detected_by}, off by {offset_ns}"
            ),
            Self::Recovered {
                cause,
                detected_by,
                took_ns,
                residual_ns,
                bound_ns,
            } => write!(
                f,
                "recovered from {cause} in {took_ns}, seen by {detected_by}, {residual_ns} left, \
                 error at most {bound_ns}"
            ),
            Self::HostRate {
                rate_ppb,
                change_ppb,
            } => write!(
                f,
                "the host's clock changed its rate by {change_ppb} to {rate_ppb}"
            ),
            Self::Source {
                to: Some(source),
                why,
                ..
            } => write!(f, "now follows {source}: {why}"),
            Self::Source { to: None, why, .. } => write!(f, "follows no source: {why}"),
            Self::Alert {
                alert,
                standing,
                why,
            } => {
                let change = if *standing { "raised" } else { "cleared" };
                write!(f, "alert {alert} {change}: {why}")
            }
            Self::Service { name, what } => write!(f, "service {name}: {what}"),
            Self::Seed { what, .. } => write!(f, "seed: {what}"),
            Self::Failure { what } => write!(f, "failure: {what}"),
            Self::Frozen { file_systems } => {
                write!(f, "frozen for a snapshot, with {file_systems} file systems")
            }
            Self::Thawed { by } => write!(f, "thawed: {by}"),
            Self::Shutdown { why } => write!(f, "shutting down: {why}"),
        }
    }
}

impl Display for Cause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "boot",
            Self::GuestStep => "guest step",
            Self::GuestFrequency => "guest frequency",
            Self::HostPause => "host pause",
            Self::HostPauseOrStep => "host pause or step",
            Self::HostRestore => "host restore",
            Self::HostStep => "host step",
            Self::SourceChange => "source change",
            Self::Unknown => "unknown",
        })
    }
}

impl Display for DetectedBy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "boot",
            Self::CancelOnSet => "cancel on set",
            Self::WatchTick => "watch tick",
            Self::Vmgenid => "vmgenid",
            Self::Vmclock => "vmclock",
            Self::Kick => "kick",
        })
    }
}

impl Display for ThawedBy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "the host asked for it",
            Self::Resume => "the machine was resumed and its clock is right",
            Self::Limit => "it lasted for as long as it may",
            Self::Failure => "a part of it failed",
            Self::Shutdown => "the machine goes down",
        })
    }
}

impl Display for Alert {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LargeOffset => "large offset",
            Self::SourceLost => "source lost",
            Self::LongHoldover => "long holdover",
            Self::BoundExceeded => "bound exceeded",
            Self::SourceLies => "source lies",
            Self::CannotCorrect => "cannot correct",
            Self::DiskMissing => "disk missing",
        })
    }
}

impl Display for UtcUnknown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClockUnsynced => "the clock is not synced yet",
            Self::HostUnsynced => "nobody keeps the host's own clock",
            Self::HostSilent => "the host says nothing of its own clock",
            Self::SourceSilent => "the source doesn't say how right it is",
        })
    }
}

impl Display for Method {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Precise => "precise",
            Self::Extended => "extended",
            Self::Offset => "offset",
            Self::RoundTrip => "round-trip",
            Self::Rtc => "rtc",
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use serde::Serialize;

    use crate::sample::Source;
    use crate::units::Nanos;

    use super::*;

    #[test]
    fn an_event_is_one_sentence_with_its_figures() {
        let event = Event::Recovered {
            cause: Cause::GuestStep,
            detected_by: DetectedBy::CancelOnSet,
            took_ns: Nanos::from_micros(420),
            residual_ns: Nanos(-72),
            bound_ns: Nanos(1_250),
        };
        assert_eq!(
            event.to_string(),
            "recovered from guest step in 420.000 us, seen by cancel on set, -72 ns left, error at \
             most 1.250 us"
        );
        let event = Event::Alert {
            alert: Alert::SourceLies,
            standing: false,
            why: "it agrees again".into(),
        };
        assert_eq!(
            event.to_string(),
            "alert source lies cleared: it agrees again"
        );
        let event = Event::Synced {
            source: Source::Kvm,
            method: Method::RoundTrip,
            offset_ns: Nanos::from_secs(3),
            bound_ns: Nanos(900),
        };
        assert_eq!(
            event.to_string(),
            "first sync by kvm (round-trip): 3.000 s added, error at most 900 ns"
        );
    }

    fn same<T: Display + Serialize>(variants: &[T]) {
        for variant in variants {
            let json = serde_json::to_value(variant).unwrap();
            let word: String = serde_json::from_value(json).unwrap();
            assert_eq!(variant.to_string(), word.replace('_', " "));
        }
    }

    #[test]
    fn a_variant_s_words_are_those_of_its_record() {
        use {Alert as A, Cause as C, DetectedBy as D, Method as M};
        same(&[C::Boot, C::GuestStep, C::GuestFrequency, C::HostPause]);
        same(&[
            C::HostPauseOrStep,
            C::HostRestore,
            C::HostStep,
            C::SourceChange,
            C::Unknown,
        ]);
        same(&[D::Boot, D::CancelOnSet, D::WatchTick]);
        same(&[D::Vmgenid, D::Vmclock, D::Kick]);
        same(&[A::LargeOffset, A::SourceLost, A::LongHoldover]);
        same(&[
            A::BoundExceeded,
            A::SourceLies,
            A::CannotCorrect,
            A::DiskMissing,
        ]);
        same(&[M::Precise, M::Extended, M::Offset, M::RoundTrip, M::Rtc]);
    }
}
