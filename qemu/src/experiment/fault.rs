//! The faults that an experiment can do, and their names on the command line.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use noonmark_sync::testport;
use noonmark_sync::units::{Nanos, Utc};
use serde::{Deserialize, Serialize};

/// A disturbance by name. Its [`Display`](fmt::Display) is a name that parses to the same fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `date:2023-03-01T12:30`: the guest's clock is set to this instant of UTC, as
    /// `date 030112302023` does in a guest, whose time zone is UTC.
    Date(Utc),
    /// `step:-1h`: the guest's clock is set to what it says plus this.
    Step(Nanos),
}

/// What kind of disturbance a fault is: the part of its name before the colon.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// The guest's clock is set, by a span or to a date.
    #[default]
    Step,
    /// The guest's frequency or tick is changed.
    Skew,
    /// The host stops the machine for a while.
    Pause,
    /// The machine's state is saved, and restored in a new QEMU.
    Restore,
    /// The machine moves to another QEMU while it runs.
    Migrate,
    /// The source that the guest follows goes away.
    SourceLoss,
    /// The source that the guest follows tells something untrue.
    Liar,
    /// The clock is set again and again while the guest is under load.
    Storm,
    /// A mixture of the others.
    Combined,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 9] = [
        Self::Step,
        Self::Skew,
        Self::Pause,
        Self::Restore,
        Self::Migrate,
        Self::SourceLoss,
        Self::Liar,
        Self::Storm,
        Self::Combined,
    ];
}

/// A name that is no fault's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The part before the colon is unknown.
    #[error(
        "unknown fault `{0}`; expected date:YYYY-MM-DDTHH:MM[:SS] (set the guest's clock to that \
         UTC) or step:±SPAN (such as step:-1h, step:+500ms)"
    )]
    Unknown(String),
    /// The date does not parse or is out of range.
    #[error(
        "fault `{name}`: `{date}` is no date between 1970 and 2262 such as 2023-03-01T12:30 \
         ({why})"
    )]
    Date {
        /// The whole name.
        name: String,
        /// Its part.
        date: String,
        /// What is wrong with it.
        why: String,
    },
    /// The span does not parse or is out of range.
    #[error("fault `{name}`: `{span}` is no span such as -1h, +500ms or -50us ({why})")]
    Span {
        /// The whole name.
        name: String,
        /// Its part.
        span: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Fault {
    /// The faults of `recover` where none is named.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        vec![
            // 2023-03-01T12:30:00Z, what `date 030112302023` sets.
            Self::Date(Utc(1_677_673_800_000_000_000)),
            Self::Step(Nanos::from_secs(-3600)),
            Self::Step(Nanos::from_secs(3600)),
            Self::Step(Nanos::from_millis(500)),
            Self::Step(Nanos::from_millis(-50)),
        ]
    }

    /// The family that it belongs to.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Date(_) | Self::Step(_) => Family::Step,
        }
    }

    /// What the fault program in the guest is asked to do.
    #[must_use]
    pub fn request(self) -> testport::Fault {
        match self {
            Self::Date(to) => testport::Fault::Set(to),
            Self::Step(by) => testport::Fault::Shift(by),
        }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(name: &str) -> Result<Self, FaultError> {
        match name.split_once(':') {
            Some(("date", date)) => {
                parse_date(date)
                    .map(Self::Date)
                    .map_err(|why| FaultError::Date {
                        name: name.to_owned(),
                        date: date.to_owned(),
                        why,
                    })
            }
            Some(("step", span)) => {
                parse_span(span)
                    .map(Self::Step)
                    .map_err(|why| FaultError::Span {
                        name: name.to_owned(),
                        span: span.to_owned(),
                        why,
                    })
            }
            _ => Err(FaultError::Unknown(name.to_owned())),
        }
    }
}

fn parse_date(date: &str) -> Result<Utc, String> {
    let civil: DateTime = date
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    let instant = civil
        .to_zoned(TimeZone::UTC)
        .map_err(|error| error.to_string())?
        .timestamp();
    let ns = i64::try_from(instant.as_nanosecond()).map_err(|_| "too far away".to_owned())?;
    if ns < 0 {
        return Err("CLOCK_REALTIME cannot be set to before 1970".to_owned());
    }
    Ok(Utc(ns))
}

fn parse_span(span: &str) -> Result<Nanos, String> {
    let span: SignedDuration = span
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    match i64::try_from(span.as_nanos()) {
        Ok(0) => Err("a step of nothing disturbs nothing".to_owned()),
        Ok(ns) => Ok(Nanos(ns)),
        Err(_) => Err("too long".to_owned()),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Date(Utc(ns)) => {
                let instant = Timestamp::from_nanosecond(ns.into()).map_err(|_| fmt::Error)?;
                let civil = TimeZone::UTC.to_datetime(instant);
                let text = civil.to_string();
                // Whole minutes are how a person writes them to `date`.
                let text = text.strip_suffix(":00").unwrap_or(&text);
                write!(f, "date:{text}")
            }
            Self::Step(Nanos(ns)) => {
                let (sign, size) = (if ns < 0 { '-' } else { '+' }, ns.unsigned_abs());
                let (divisor, unit) = UNITS
                    .into_iter()
                    .find(|(divisor, _)| size % divisor == 0)
                    .unwrap_or((1, "ns"));
                write!(f, "step:{sign}{}{unit}", size / divisor)
            }
        }
    }
}

/// Units of a span, longest first.
const UNITS: [(u64, &str); 7] = [
    (86_400_000_000_000, "d"),
    (3_600_000_000_000, "h"),
    (60_000_000_000, "m"),
    (1_000_000_000, "s"),
    (1_000_000, "ms"),
    (1_000, "us"),
    (1, "ns"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_defaults_have_the_names_that_the_report_shows() {
        let names: Vec<String> = Fault::defaults().iter().map(Fault::to_string).collect();
        assert_eq!(
            names,
            [
                "date:2023-03-01T12:30",
                "step:-1h",
                "step:+1h",
                "step:+500ms",
                "step:-50ms"
            ]
        );
    }

    #[test]
    fn a_date_is_utc_with_or_without_seconds() {
        let minute: Fault = "date:2023-03-01T12:30".parse().unwrap();
        assert_eq!(minute, Fault::Date(Utc(1_677_673_800_000_000_000)));
        let second: Fault = "date:2023-03-01T12:30:01".parse().unwrap();
        assert_eq!(second, Fault::Date(Utc(1_677_673_801_000_000_000)));
    }

    #[test]
    fn what_is_no_fault_is_refused_with_what_would_be_one() {
        for bad in ["", "date", "nudge:1h", "step", "2023"] {
            let error = bad.parse::<Fault>().unwrap_err();
            assert_eq!(error, FaultError::Unknown(bad.to_owned()));
            assert!(error.to_string().contains("step:-1h"));
        }
        for bad in [
            "date:",
            "date:tomorrow",
            "date:1969-12-31T23:59",
            "date:9999-01-01T00:00",
        ] {
            let error = bad.parse::<Fault>().unwrap_err();
            assert!(matches!(error, FaultError::Date { .. }), "{bad}: {error}");
        }
        for bad in [
            "step:",
            "step:0s",
            "step:1",
            "step:1 parsec",
            "step:900000h9999999h",
        ] {
            let error = bad.parse::<Fault>().unwrap_err();
            assert!(matches!(error, FaultError::Span { .. }), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_fault_s_name_parses_to_the_fault(ns: i64, seconds in 0_i64..9_000_000_000) {
            prop_assume!(ns != 0 && ns != i64::MIN);
            for fault in [Fault::Step(Nanos(ns)), Fault::Date(Utc(seconds * 1_000_000_000))] {
                prop_assert_eq!(fault.to_string().parse::<Fault>(), Ok(fault));
            }
        }
    }
}
