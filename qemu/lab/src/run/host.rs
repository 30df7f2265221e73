//! What becomes of the host, and of the guest's clock meanwhile: done to the emulated host that this
//! program runs in, never to a user's machine, and read by the guest's observer against the host's clock.

mod chronyd;
mod clock;
mod ntp_server;
mod program;
mod ptp4l;

use std::thread;
use std::time::Duration;

use noonmark_contract::record::Event;
use noonmark_contract::units::Nanos;
use noonmark_qemu::kvm_host::{self, KvmHost};

use crate::fault::{Daemon, HostChange, RATE_SPAN, Slewer};
use crate::report::Sample;
use crate::report::error::{ClockError, MeasuredBy};
use crate::report::series::ErrorSeries;

pub(crate) use self::clock::RestoredRate;
use super::outcome::SampleError;
use super::session::{Session, nanos};
use super::track::{self, Recording};

/// How long a clock is recorded before anything is done.
const BEFORE: Duration = Duration::from_millis(500);

/// Has this become of the host, and follows the guest's clock.
pub(crate) fn sample(session: &mut Session<'_>, change: HostChange) -> Result<Sample, SampleError> {
    let host = emulated()?;
    session.forget_records();
    let recording = track::record(session, BEFORE, change.span(), |_| {
        carry_out(change, host).map_err(refused)
    })?;
    Ok(evaluate(session, change, recording))
}

/// Changes the host's clock for good, between one of a machine's hosts and the next.
///
/// # Errors
///
/// This is no emulated host, or what is to be done takes a host that goes on.
pub(crate) fn change_between(change: HostChange) -> Result<Option<RestoredRate>, SampleError> {
    emulated()?;
    match change {
        HostChange::Step(by) => clock::step(by).map(|()| None).map_err(refused),
        HostChange::Rate { ppm } => RestoredRate::changed_to(ppm).map(Some).map_err(refused),
        HostChange::Slew { by, .. } => clock::slew(by).map(|()| None).map_err(refused),
        HostChange::Suspend(_) | HostChange::Daemon(_) => {
            let why = "between two hosts there is none that it could be done to";
            Err(SampleError::Refused(why.to_owned()))
        }
    }
}

/// The host that may be changed.
pub(crate) fn emulated() -> Result<&'static KvmHost, SampleError> {
    kvm_host::inside().ok_or_else(|| {
        let why = "it is done to the host's own clock, which only an emulated host lends to it \
                   (--accel nested)";
        SampleError::Refused(why.to_owned())
    })
}

fn refused(why: String) -> SampleError {
    SampleError::Refused(why)
}

fn carry_out(change: HostChange, host: &KvmHost) -> Result<(), String> {
    match change {
        HostChange::Step(by) => clock::step(by),
        HostChange::Rate { ppm } => {
            let _changed = RestoredRate::changed_to(ppm)?;
            thread::sleep(RATE_SPAN);
            Ok(())
        }
        HostChange::Slew {
            by,
            slewer: Slewer::Kernel,
        } => clock::slew(by),
        HostChange::Slew {
            by,
            slewer: Slewer::Chronyd,
        } => chronyd::slew(by, change.span()),
        HostChange::Suspend(span) => host
            .suspend(span)
            .map_err(|error| format!("the host can't be suspended: {error}")),
        HostChange::Daemon(Daemon::None) => Ok(()),
        HostChange::Daemon(Daemon::Chronyd) => chronyd::follow(change.span()),
        HostChange::Daemon(Daemon::Ptp4l) => ptp4l::follow(change.span()),
    }
}

/// What PID 1 told of meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    disruptions: u32,
    alerts: u32,
}

fn evaluate(session: &mut Session<'_>, change: HostChange, recording: Recording) -> Sample {
    let mut sample = Sample {
        measured_by: MeasuredBy::Observer,
        ..Sample::default()
    };
    let told = told(session, &mut sample);
    let tolerance = session.plan.tolerance;
    let series = ErrorSeries {
        name: change.to_string(),
        points: recording.points,
        missing: recording.missing,
        ..ErrorSeries::default()
    };
    let since = || series.points.iter().filter(|point| point.at >= Nanos::ZERO);
    sample.reads = since().count() as u64;
    sample.wrong_reads = since()
        .filter(|point| point.error.abs() > tolerance)
        .count() as u64;
    sample.worst_ns = series.largest_from(Nanos::ZERO).unwrap_or_default();
    let right_since = series.within_since(tolerance);
    sample.recovered_ns = right_since.map(|at| at.max(Nanos::ZERO));
    let before = series.points.iter().rfind(|point| point.at < Nanos::ZERO);
    sample.before = before.map(|point| ClockError {
        error_ns: point.error,
        bound_ns: point.bound,
        measured_by: MeasuredBy::Observer,
    });
    sample.after = series.last();
    sample.violations = violations(change, &series, session.error_limit, told);
    sample.detail = format!(
        "worst {}, {} readings, {} disruptions and {} alerts told",
        sample.worst_ns, sample.reads, told.disruptions, told.alerts
    );
    sample.series = Some(Box::new(series));
    sample
}

/// Takes in what PID 1 has told since the records were forgotten.
fn told(session: &mut Session<'_>, sample: &mut Sample) -> Told {
    let mut told = Told::default();
    let mut repair = super::repair::RepairRecord::default();
    while let Some(record) = session.event() {
        repair.take(&record.event);
        match record.event {
            Event::Disrupted { .. } => told.disruptions += 1,
            Event::Alert { standing: true, .. } => told.alerts += 1,
            _ => {}
        }
    }
    repair.add_to(sample);
    told
}

/// What must not have happened and did.
fn violations(
    change: HostChange,
    series: &ErrorSeries,
    error_limit: Nanos,
    told: Told,
) -> Vec<String> {
    let bars = change.bars();
    let mut found = Vec::new();
    if let Some(always) = bars.always
        && let Some(worst) = series
            .largest_from(Nanos::ZERO)
            .filter(|worst| *worst > always)
    {
        found.push(format!(
            "the error reached {worst}; at most {always} is accepted"
        ));
    }
    let settled = nanos(bars.settled_after);
    let changes = match change {
        // It is changed a second time, back to what it was.
        HostChange::Rate { .. } => vec![Nanos::ZERO, nanos(RATE_SPAN)],
        _ => vec![Nanos::ZERO],
    };
    for (index, &from) in changes.iter().enumerate() {
        let end = changes.get(index + 1).copied().unwrap_or(Nanos::MAX);
        let judged = series
            .points
            .iter()
            .filter(|point| point.at >= from + settled && point.at < end);
        let largest = judged.map(|point| point.error.abs()).max();
        match largest {
            None => found.push(format!("nothing was read {settled} after it")),
            Some(largest) if largest > error_limit => found.push(format!(
                "{settled} after the host's clock changed the error still reached {largest}; at most \
                 {error_limit} is accepted"
            )),
            Some(_) => {}
        }
    }
    if !bars.disrupts && told.disruptions > 0 {
        found.push(format!(
            "PID 1 told of {} disruptions where no clock was stepped",
            told.disruptions
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use noonmark_contract::testport::ErrorPoint;

    use super::*;

    fn series(points: &[(i64, i64)]) -> ErrorSeries {
        let point = |&(ms, error)| ErrorPoint {
            at: Nanos::from_millis(ms),
            error: Nanos(error),
            bound: Nanos(10),
        };
        ErrorSeries {
            points: points.iter().map(point).collect(),
            ..ErrorSeries::default()
        }
    }

    fn found(change: HostChange, points: &[(i64, i64)], disruptions: u32) -> Vec<String> {
        let told = Told {
            disruptions,
            alerts: 0,
        };
        violations(change, &series(points), Nanos::from_micros(1), told)
    }

    #[test]
    fn a_rate_is_judged_at_all_times_and_again_after_each_change() {
        let rate = HostChange::Rate { ppm: 50 };
        let good = [
            (-10, 1),
            (10, 19_000),
            (2_100, 900),
            (5_010, 9_000),
            (7_100, 3),
        ];
        assert_eq!(found(rate, &good, 0), Vec::<String>::new());
        let fast = [(10, 21_000), (2_100, 900), (7_100, 3)];
        assert!(found(rate, &fast, 0)[0].contains("21.000 us"));
        let late = [(10, 10), (2_100, 1_900), (7_100, 3)];
        assert!(found(rate, &late, 0)[0].contains("1.900 us"));
        let lasting = [(10, 10), (2_100, 3), (7_100, -1_900)];
        assert!(found(rate, &lasting, 0)[0].contains("1.900 us"));
        assert!(found(rate, &[(10, 10), (2_100, 3)], 0)[0].contains("nothing was read"));
        assert!(found(rate, &good, 2)[0].contains("2 disruptions"));
    }

    #[test]
    fn a_step_may_be_told_and_is_judged_once_it_is_repaired() {
        let step = HostChange::Step(Nanos::from_secs(3));
        let points = [(-10, 1), (10, -3_000_000_000), (60, 400), (2_500, 10)];
        assert_eq!(found(step, &points, 1), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_done_to_a_user_s_machine() {
        let error = change_between(HostChange::Step(Nanos::from_secs(3))).unwrap_err();
        assert!(matches!(&error, SampleError::Refused(why) if why.contains("--accel nested")));
    }
}
