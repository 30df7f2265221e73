//! What becomes of the host while its guest runs: its clock is stepped or runs at another rate, a
//! program keeps it, or the host itself stands still. Each is bounded by what the guest's clock may
//! be off from the host's meanwhile.

use std::fmt;
use std::time::Duration;

use noonmark_contract::units::Nanos;

use super::spans::{parse_duration, parse_span, span};

/// What is done to the host or to its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostChange {
    /// `host-step:+3s`: its clock is set to what it says plus this.
    Step(Nanos),
    /// `host-rate:+50ppm`: its clock runs at another rate for some seconds, and then as before;
    /// -500..=500, not 0.
    Rate {
        /// Parts per million.
        ppm: i32,
    },
    /// `host-slew:50ms`: its clock is slewed by this; a millisecond to a second, either way.
    Slew {
        /// By how much.
        by: Nanos,
        /// By whom.
        slewer: Slewer,
    },
    /// `host-suspend:30s`: it stands still for this long, as when a laptop's lid is closed; a second
    /// to ten minutes.
    Suspend(Duration),
    /// `host-daemon:chronyd`: nothing is done to it, but this program keeps its clock for a minute.
    Daemon(Daemon),
}

/// Who slews the host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slewer {
    /// The kernel, as adjtime(3) has it do it: at 500 ppm.
    Kernel,
    /// chronyd that finds its clock off, as its defaults have it do it: at up to 83,333 ppm
    /// (`maxslewrate`).
    Chronyd,
}

/// Who keeps the host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// Nobody.
    None,
    /// chronyd, after a server whose rate wanders.
    Chronyd,
    /// ptp4l, after a grandmaster, both with software time stamps.
    Ptp4l,
}

/// What the guest's clock may be off from the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bars {
    /// At any time; none where the change itself is a step.
    pub(crate) always: Option<Nanos>,
    /// How long after the change began and after each further one the clock must be as right as it
    /// was before.
    pub(crate) settled_after: Duration,
    /// Whether PID 1 may tell of a disruption.
    pub(crate) disrupts: bool,
}

/// How long a changed rate lasts, and is then watched.
pub(crate) const RATE_SPAN: Duration = Duration::from_secs(5);

/// How long a program that keeps the host's clock is watched, once it has found its clock's rate.
pub(crate) const DAEMON_SPAN: Duration = Duration::from_secs(60);
pub(crate) const DAEMON_SETTLES: Duration = Duration::from_secs(30);

/// How long chronyd may take to learn how far its clock is off, and to slew it.
pub(crate) const CHRONYD_SPAN: Duration = Duration::from_secs(20);

/// How long a guest is watched after all else.
pub(crate) const WATCHED_AFTER: Duration = Duration::from_secs(3);

/// The kernel's own slew, `MAX_TICKADJ` of kernel/time/ntp.c: microseconds a second.
const KERNEL_SLEW_US_PER_S: u64 = 500;

impl HostChange {
    /// The usual ones.
    pub(super) fn usual() -> Vec<Self> {
        let mut all = Vec::new();
        for step in [3_000, 80, 2].map(Nanos::from_millis) {
            all.extend([Self::Step(step), Self::Step(-step)]);
        }
        for ppm in [10, 50, 200, 500] {
            all.extend([Self::Rate { ppm }, Self::Rate { ppm: -ppm }]);
        }
        let by = Nanos::from_millis(50);
        all.extend([Slewer::Kernel, Slewer::Chronyd].map(|slewer| Self::Slew { by, slewer }));
        all.push(Self::Suspend(Duration::from_secs(30)));
        all.extend([Daemon::None, Daemon::Chronyd, Daemon::Ptp4l].map(Self::Daemon));
        all
    }

    /// Those that the next host of a machine that moves may differ by.
    pub(super) fn between() -> [Self; 2] {
        [Self::Step(Nanos::from_secs(3)), Self::Rate { ppm: 50 }]
    }

    /// How long it lasts and is watched.
    pub(crate) fn span(self) -> Duration {
        WATCHED_AFTER
            + match self {
                Self::Step(_) => Duration::ZERO,
                Self::Rate { .. } => 2 * RATE_SPAN,
                Self::Slew {
                    by,
                    slewer: Slewer::Kernel,
                } => kernel_slew(by),
                Self::Slew {
                    slewer: Slewer::Chronyd,
                    ..
                } => CHRONYD_SPAN,
                Self::Suspend(span) => span,
                Self::Daemon(_) => DAEMON_SETTLES + DAEMON_SPAN,
            }
    }

    /// How many samples are taken of it where `count` are asked for of each fault: some take a minute
    /// and more, and tell by their many readings.
    pub(crate) fn samples(self, count: u32) -> u32 {
        match self {
            Self::Step(_) | Self::Rate { .. } => count,
            Self::Slew { .. } | Self::Suspend(_) => count.min(2),
            Self::Daemon(_) => count.min(1),
        }
    }

    /// What is accepted of the guest's clock.
    pub(crate) fn bars(self) -> Bars {
        let (always, settled_after, disrupts) = match self {
            Self::Step(_) => (None, Duration::from_millis(50), true),
            Self::Rate { .. } => (Some(Nanos::from_micros(20)), Duration::from_secs(2), false),
            Self::Slew {
                by,
                slewer: Slewer::Kernel,
            } => {
                let ends = kernel_slew(by) + Duration::from_secs(1);
                (Some(Nanos::from_micros(20)), ends, false)
            }
            Self::Slew {
                slewer: Slewer::Chronyd,
                ..
            } => {
                let ends = CHRONYD_SPAN + Duration::from_secs(1);
                (Some(Nanos::from_millis(5)), ends, false)
            }
            Self::Suspend(_) => (Some(Nanos::from_micros(20)), Duration::ZERO, false),
            Self::Daemon(_) => (Some(Nanos::from_micros(20)), DAEMON_SETTLES, false),
        };
        Bars {
            always,
            settled_after,
            disrupts,
        }
    }

    /// The change whose family is called `family`, with what stands behind the colon; none where it is
    /// none. The error is what was expected there.
    pub(super) fn parse(family: &str, detail: &str) -> Option<Result<Self, &'static str>> {
        let parsed = match family {
            "host-step" => parse_span(detail)
                .ok()
                .map(Self::Step)
                .ok_or("host-step:±SPAN, such as host-step:+3s"),
            "host-rate" => detail
                .strip_suffix("ppm")
                .and_then(|ppm| ppm.parse().ok())
                .filter(|ppm: &i32| *ppm != 0 && ppm.abs() <= 500)
                .map(|ppm| Self::Rate { ppm })
                .ok_or("host-rate:±1..500ppm, such as host-rate:+50ppm"),
            "host-slew" => parse_slew(detail)
                .ok_or("host-slew:SPAN or host-slew:SPAN+chronyd, a span of 1ms to 1s"),
            "host-suspend" => parse_duration(detail)
                .filter(|span| (1..=600).contains(&span.as_secs()))
                .map(Self::Suspend)
                .ok_or("host-suspend:SPAN, 1s to 10m"),
            "host-daemon" => Daemon::ALL
                .into_iter()
                .find(|daemon| daemon.word() == detail)
                .map(Self::Daemon)
                .ok_or("host-daemon:none, chronyd or ptp4l"),
            _ => return None,
        };
        Some(parsed)
    }
}

/// How long the kernel takes.
fn kernel_slew(by: Nanos) -> Duration {
    Duration::from_secs((by.0.unsigned_abs() / 1_000).div_ceil(KERNEL_SLEW_US_PER_S))
}

fn parse_slew(detail: &str) -> Option<HostChange> {
    let (by, slewer) = match detail.strip_suffix("+chronyd") {
        Some(by) => (by, Slewer::Chronyd),
        None => (detail, Slewer::Kernel),
    };
    let by = parse_span(by).ok()?;
    let sizes = Nanos::from_millis(1)..=Nanos::from_secs(1);
    sizes
        .contains(&by.abs())
        .then_some(HostChange::Slew { by, slewer })
}

impl Daemon {
    /// All of them, in the order of the matrix.
    const ALL: [Self; 3] = [Self::None, Self::Chronyd, Self::Ptp4l];

    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Chronyd => "chronyd",
            Self::Ptp4l => "ptp4l",
        }
    }
}

impl fmt::Display for HostChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |ns: i64| if ns < 0 { "-" } else { "" };
        match *self {
            Self::Step(Nanos(ns)) => {
                let sign = if ns < 0 { '-' } else { '+' };
                write!(f, "host-step:{sign}{}", span(ns.unsigned_abs().into()))
            }
            Self::Rate { ppm } => write!(f, "host-rate:{ppm:+}ppm"),
            Self::Slew { by, slewer } => {
                let by_whom = match slewer {
                    Slewer::Kernel => "",
                    Slewer::Chronyd => "+chronyd",
                };
                let size = span(by.0.unsigned_abs().into());
                write!(f, "host-slew:{}{size}{by_whom}", sign(by.0))
            }
            Self::Suspend(long) => write!(f, "host-suspend:{}", span(long.as_nanos())),
            Self::Daemon(daemon) => write!(f, "host-daemon:{}", daemon.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Option<Result<HostChange, &'static str>> {
        let (family, detail) = name.split_once(':').unwrap_or((name, ""));
        HostChange::parse(family, detail)
    }

    #[test]
    fn each_change_has_a_name_that_means_it() {
        for change in HostChange::usual() {
            assert_eq!(parse(&change.to_string()), Some(Ok(change)), "{change}");
        }
        let slew = parse("host-slew:-50ms+chronyd").unwrap().unwrap();
        assert_eq!(slew.to_string(), "host-slew:-50ms+chronyd");
        assert_eq!(parse("step:+1s"), None);
        for wrong in [
            "host-step:",
            "host-step:0s",
            "host-rate:0ppm",
            "host-rate:+501ppm",
            "host-rate:+10",
            "host-slew:2s",
            "host-slew:50ms+ntpd",
            "host-suspend:1ms",
            "host-suspend:11m",
            "host-daemon:ntpd",
        ] {
            assert!(matches!(parse(wrong), Some(Err(_))), "{wrong}");
        }
    }

    #[test]
    fn a_slew_is_watched_until_after_its_end() {
        let slew = parse("host-slew:50ms").unwrap().unwrap();
        assert_eq!(slew.span(), Duration::from_secs(103));
        assert!(slew.bars().settled_after < slew.span());
    }
}
