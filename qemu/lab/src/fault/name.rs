//! What faults are called on the command line and in reports: `family:detail`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use noonmark_contract::units::{Nanos, Utc};

use super::definition::{AWAY, Fault, Misbehaviour};
use super::family::Family;
use super::host::HostChange;
use super::spans::{parse_duration, parse_span, span};

/// The most scrambles that a storm can have.
const SCRAMBLES_MAX: u32 = 1_000_000;

/// One or more faults by one name: a fault's own, or that of a family, which means all that the
/// matrix has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSet(pub Vec<Fault>);

/// A name that is no fault's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The part before the colon is unknown.
    #[error(
        "unknown fault `{0}`; expected date:YYYY-MM-DDTHH:MM[:SS] (set the guest's clock to that \
         UTC), step:±SPAN (such as step:-1h, step:+500ms), skew:±PPMppm, skew:tick±PERCENT%, \
         pause:SPAN[+kick], restore:SPAN[+devices][+kick], migrate, source-loss:channel|phc, \
         liar:hour|drift|garbage|late|silent, storm:COUNT, combined, host-step:±SPAN, \
         host-rate:±PPMppm, host-slew:SPAN[+chronyd], host-suspend:SPAN, \
         host-daemon:none|chronyd|ptp4l, migrate:HOST-FAULT, restore:HOST-FAULT; or a family of \
         them: step, skew, pause, restore, migrate, source-loss, liar, storm, combined, host-step, \
         host-rate, host-slew, host-suspend, host-daemon"
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
    /// Something else behind the colon is wrong.
    #[error("fault `{name}`: expected {expected}")]
    Detail {
        /// The whole name.
        name: String,
        /// What was expected there.
        expected: &'static str,
    },
}

impl FromStr for FaultSet {
    type Err = FaultError;

    fn from_str(name: &str) -> Result<Self, FaultError> {
        let family = Family::ALL
            .into_iter()
            .find(|family| family.to_string() == name);
        match family {
            Some(family) => Ok(Self(Fault::of_family(family))),
            None => name.parse().map(|fault| Self(vec![fault])),
        }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(name: &str) -> Result<Self, FaultError> {
        let wrong = |expected| FaultError::Detail {
            name: name.to_owned(),
            expected,
        };
        let (family, detail) = name.split_once(':').unwrap_or((name, ""));
        match family {
            "date" if !detail.is_empty() || name.contains(':') => parse_date(detail)
                .map(Self::Date)
                .map_err(|why| FaultError::Date {
                    name: name.to_owned(),
                    date: detail.to_owned(),
                    why,
                }),
            "step" if name.contains(':') => {
                parse_span(detail)
                    .map(Self::Step)
                    .map_err(|why| FaultError::Span {
                        name: name.to_owned(),
                        span: detail.to_owned(),
                        why,
                    })
            }
            "skew" => parse_skew(detail)
                .ok_or_else(|| wrong("skew:±1..500ppm or skew:tick±1..10%, such as skew:tick+10%")),
            "pause" => {
                parse_pause(detail).ok_or_else(|| wrong("pause:SPAN or pause:SPAN+kick, 1ms to 1h"))
            }
            "restore" if detail.starts_with("host-") => match parse_host(detail) {
                Some(between) => Ok(Self::Restore {
                    away: AWAY,
                    devices: false,
                    kick: false,
                    between: Some(between?),
                }),
                None => Err(FaultError::Unknown(name.to_owned())),
            },
            "restore" => parse_restore(detail)
                .ok_or_else(|| wrong("restore:SPAN[+devices][+kick], a span up to 1h")),
            "migrate" if name == family => Ok(Self::Migrate { between: None }),
            "migrate" => match parse_host(detail) {
                Some(between) => Ok(Self::Migrate {
                    between: Some(between?),
                }),
                None => Err(FaultError::Unknown(name.to_owned())),
            },
            "source-loss" if detail == "channel" => Ok(Self::ChannelLoss),
            "source-loss" if detail == "phc" => Ok(Self::PhcLoss),
            "source-loss" => Err(wrong("source-loss:channel or source-loss:phc")),
            "liar" => parse_misbehaviour(detail)
                .map(Self::Falseticker)
                .ok_or_else(|| wrong("liar:hour, drift, garbage, late or silent")),
            "storm" => parse_storm(detail).ok_or_else(|| wrong("storm:COUNT, 1 to 1000000")),
            "combined" if name == family => Ok(Self::Combined),
            _ => match parse_host(name) {
                Some(change) => change.map(Self::Host),
                None => Err(FaultError::Unknown(name.to_owned())),
            },
        }
    }
}

/// What a name says of the host; none where that is nothing.
fn parse_host(name: &str) -> Option<Result<HostChange, FaultError>> {
    let (family, detail) = name.split_once(':')?;
    let parsed = HostChange::parse(family, detail)?;
    Some(parsed.map_err(|expected| FaultError::Detail {
        name: name.to_owned(),
        expected,
    }))
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

fn parse_skew(detail: &str) -> Option<Fault> {
    let within = |text: &str, limit: i32| {
        let number: i32 = text.parse().ok()?;
        (number != 0 && number.abs() <= limit).then_some(number)
    };
    if let Some(ppm) = detail.strip_suffix("ppm") {
        return within(ppm, 500).map(|ppm| Fault::Frequency { ppm });
    }
    let percent = detail.strip_prefix("tick")?.strip_suffix('%')?;
    within(percent, 10).map(|percent| Fault::Tick { percent })
}

fn parse_pause(detail: &str) -> Option<Fault> {
    let (span, kick) = split_flag(detail, "+kick");
    let span = parse_duration(span)?;
    (span.as_millis() >= 1).then_some(Fault::Pause { span, kick })
}

fn parse_restore(detail: &str) -> Option<Fault> {
    let (rest, kick) = split_flag(detail, "+kick");
    let (span, devices) = split_flag(rest, "+devices");
    Some(Fault::Restore {
        away: parse_duration(span)?,
        devices,
        kick,
        between: None,
    })
}

fn split_flag<'a>(detail: &'a str, flag: &str) -> (&'a str, bool) {
    match detail.strip_suffix(flag) {
        Some(rest) => (rest, true),
        None => (detail, false),
    }
}

fn parse_misbehaviour(detail: &str) -> Option<Misbehaviour> {
    Misbehaviour::ALL
        .into_iter()
        .find(|how| how.word() == detail)
}

fn parse_storm(detail: &str) -> Option<Fault> {
    let scrambles = detail.parse().ok()?;
    (1..=SCRAMBLES_MAX)
        .contains(&scrambles)
        .then_some(Fault::Storm { scrambles })
}

impl Misbehaviour {
    /// All of them, in the order of the matrix.
    pub(super) const ALL: [Self; 5] = [
        Self::Hour,
        Self::Drift,
        Self::Garbage,
        Self::Late,
        Self::Silent,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Drift => "drift",
            Self::Garbage => "garbage",
            Self::Late => "late",
            Self::Silent => "silent",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set, flag| if set { flag } else { "" };
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
                let sign = if ns < 0 { '-' } else { '+' };
                write!(f, "step:{sign}{}", span(ns.unsigned_abs().into()))
            }
            Self::Frequency { ppm } => write!(f, "skew:{ppm:+}ppm"),
            Self::Tick { percent } => write!(f, "skew:tick{percent:+}%"),
            Self::Pause { span: long, kick } => {
                write!(f, "pause:{}{}", span(long.as_nanos()), flag(kick, "+kick"))
            }
            Self::Restore {
                between: Some(between),
                ..
            } => write!(f, "restore:{between}"),
            Self::Restore {
                away,
                devices,
                kick,
                between: None,
            } => {
                let (devices, kick) = (flag(devices, "+devices"), flag(kick, "+kick"));
                write!(f, "restore:{}{devices}{kick}", span(away.as_nanos()))
            }
            Self::Migrate { between: None } => f.write_str("migrate"),
            Self::Migrate {
                between: Some(between),
            } => write!(f, "migrate:{between}"),
            Self::ChannelLoss => f.write_str("source-loss:channel"),
            Self::PhcLoss => f.write_str("source-loss:phc"),
            Self::Falseticker(how) => write!(f, "liar:{}", how.word()),
            Self::Storm { scrambles } => write!(f, "storm:{scrambles}"),
            Self::Combined => f.write_str("combined"),
            Self::Host(change) => write!(f, "{change}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_matrix_has_the_names_that_the_report_shows() {
        let names: Vec<String> = Fault::matrix().iter().map(Fault::to_string).collect();
        assert_eq!(
            names,
            [
                "date:2023-03-01T12:30",
                "date:1970-01-02T00:00",
                "date:2038-01-20T03:14:07",
                "date:2106-02-07T06:28:16",
                "step:+1h",
                "step:-1h",
                "step:+500ms",
                "step:-500ms",
                "step:+50ms",
                "step:-50ms",
                "step:+2ms",
                "step:-2ms",
                "skew:+500ppm",
                "skew:-500ppm",
                "skew:tick+10%",
                "skew:tick-10%",
                "pause:100ms",
                "pause:100ms+kick",
                "pause:5s",
                "pause:5s+kick",
                "pause:30s",
                "pause:30s+kick",
                "restore:10s",
                "restore:10s+devices",
                "migrate",
                "migrate:host-step:+3s",
                "restore:host-step:+3s",
                "migrate:host-rate:+50ppm",
                "restore:host-rate:+50ppm",
                "source-loss:channel",
                "source-loss:phc",
                "liar:hour",
                "liar:drift",
                "liar:garbage",
                "liar:late",
                "liar:silent",
                "storm:1000",
                "combined",
                "host-step:+3s",
                "host-step:-3s",
                "host-step:+80ms",
                "host-step:-80ms",
                "host-step:+2ms",
                "host-step:-2ms",
                "host-rate:+10ppm",
                "host-rate:-10ppm",
                "host-rate:+50ppm",
                "host-rate:-50ppm",
                "host-rate:+200ppm",
                "host-rate:-200ppm",
                "host-rate:+500ppm",
                "host-rate:-500ppm",
                "host-slew:50ms",
                "host-slew:50ms+chronyd",
                "host-suspend:30s",
                "host-daemon:none",
                "host-daemon:chronyd",
                "host-daemon:ptp4l",
            ]
        );
        for fault in Fault::matrix() {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
    }

    #[test]
    fn a_date_is_utc_with_or_without_seconds() {
        let minute: Fault = "date:2023-03-01T12:30".parse().unwrap();
        assert_eq!(minute, Fault::Date(Utc(1_677_673_800_000_000_000)));
        let second: Fault = "date:2023-03-01T12:30:01".parse().unwrap();
        assert_eq!(second, Fault::Date(Utc(1_677_673_801_000_000_000)));
    }

    #[test]
    fn a_family_s_name_alone_means_all_of_it() {
        let set: FaultSet = "pause".parse().unwrap();
        assert_eq!(set.0, Fault::of_family(Family::Pause));
        let set: FaultSet = "pause:0.1s+kick".parse().unwrap();
        assert_eq!(set.0, ["pause:100ms+kick".parse().unwrap()]);
        let set: FaultSet = "migrate".parse().unwrap();
        assert_eq!(set.0, Fault::of_family(Family::Migrate));
    }

    #[test]
    fn what_is_no_fault_is_refused_with_what_would_be_one() {
        for bad in ["", "date", "nudge:1h", "step", "2023", "migrate:far"] {
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
        for bad in [
            "skew:501ppm",
            "skew:0ppm",
            "skew:tick+11%",
            "skew:",
            "pause:0s",
            "pause:2h",
            "pause:-1s",
            "pause:1s+push",
            "restore:10s+kick+devices",
            "source-loss:rtc",
            "liar:minute",
            "storm:0",
            "storm:2000000",
        ] {
            let error = bad.parse::<Fault>().unwrap_err();
            assert!(matches!(error, FaultError::Detail { .. }), "{bad}: {error}");
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
