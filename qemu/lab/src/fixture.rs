//! A report for tests.

use noonmark_contract::record::{Boot, Cause, DetectedBy, SourceStatus, Usage};
use noonmark_contract::sample::{Method, Source};
use noonmark_contract::testport::ErrorPoint;
use noonmark_contract::units::Nanos;

use crate::fault::Family;
use crate::report::error::{ClockError, MeasuredBy, PRECISE_LIMIT};
use crate::report::evidence::Evidence;
use crate::report::host::Host;
use crate::report::limits::Limits;
use crate::report::series::ErrorSeries;
use crate::report::{Environment, FaultReport, FirstSample, Report, Sample, Summary, VERSION};

/// An error as the observer measures it, with a bound of 10 ns.
pub fn error(error_ns: i64) -> ClockError {
    ClockError {
        error_ns: Nanos(error_ns),
        bound_ns: Nanos(10),
        measured_by: MeasuredBy::Observer,
    }
}

/// An error as the host measures it by exchanges.
pub fn exchanged(error_ns: i64, bound_ns: i64) -> ClockError {
    ClockError {
        error_ns: Nanos(error_ns),
        bound_ns: Nanos(bound_ns),
        measured_by: MeasuredBy::Host,
    }
}

/// One sample of a clock that recovered after so many microseconds, or did not.
pub fn sample(recovered_us: Option<i64>) -> Sample {
    Sample {
        recovered_ns: recovered_us.map(Nanos::from_micros),
        wrong_reads: 210,
        residual_ns: Nanos(-72),
        detected_by: Some(DetectedBy::CancelOnSet),
        cause: Some(Cause::GuestStep),
        residual_bound_ns: Nanos(100),
        reads: 5000,
        worst_ns: Nanos::from_secs(3600),
        repair_ns: Some(Nanos::from_micros(400)),
        before: Some(error(5)),
        after: Some(error(-72)),
        error_limit_ns: Some(PRECISE_LIMIT),
        ..Sample::default()
    }
}

/// A fault with samples of these times in microseconds, each of a boot of its own.
pub fn fault(name: &str, times_us: &[i64]) -> FaultReport {
    let in_boot = |(boot, us): (u32, &i64)| Sample {
        boot,
        ..sample(Some(*us))
    };
    let samples: Vec<Sample> = (1..).zip(times_us).map(in_boot).collect();
    FaultReport {
        fault: name.into(),
        family: Family::Step,
        requested: u32::try_from(samples.len()).unwrap(),
        summary: Summary::of(&samples),
        samples,
    }
}

/// The error against the host, every second, with a bound of 10 ns.
pub fn series(name: &str, errors_ns: &[i64]) -> ErrorSeries {
    let point = |(second, &error): (i64, &i64)| ErrorPoint {
        at: Nanos::from_secs(second),
        error: Nanos(error),
        bound: Nanos(10),
    };
    ErrorSeries {
        name: name.into(),
        number: 1,
        points: (0..).zip(errors_ns).map(point).collect(),
        ..ErrorSeries::default()
    }
}

/// A report of a good run: the first sample and two more of `step:-1h`.
pub fn report() -> Report {
    let samples = vec![
        sample(Some(612)),
        Sample {
            detected_by: Some(DetectedBy::WatchTick),
            ..sample(Some(20_500))
        },
    ];
    Report {
        v: VERSION,
        environment: Environment {
            qemu: "10.0.2 (Debian 1:10.0.2)".into(),
            accelerator: "tcg".into(),
            accelerator_reason: "it was asked for".into(),
            kernel: Some("6.1.0-56-cloud-amd64".into()),
            clocksource: Some("kvm-clock".into()),
            source: Some(Source::Kvm),
            method: Some(Method::Precise),
            vcpus: 2,
        },
        tolerance_ns: Nanos::from_millis(1),
        boot: Some(Boot {
            kernel_to_init_ns: Nanos::from_millis(2400),
            init_to_synced_ns: Some(Nanos::from_millis(120)),
        }),
        faults: vec![FaultReport {
            fault: "step:-1h".into(),
            family: Family::Step,
            requested: 2,
            summary: Summary::of(&samples),
            samples,
        }],
        not_run: vec![],
        boot_exits: None,
        first: Some(FirstSample {
            fault: "step:-1h".into(),
            sample: sample(Some(14_000)),
        }),
        max_recovery_ns: Nanos::from_millis(50),
        seed: 1,
        noonmark: "0.1.0".into(),
        sources: vec![SourceStatus {
            source: Source::Vmclock,
            good: 0,
            bad: 1,
            reach: 0,
            last: None,
            last_failure: Some("no such device".into()),
        }],
        init: Some(Usage {
            cpu_ppm: 3100,
            rss_kib: 900,
        }),
        host: Host {
            cpus: Some(2),
            qemu_waited_share: Some(0.25),
            ..Host::default()
        },
        evidence: Evidence::default(),
        limits: Limits::default(),
        synced: Some(error(-3)),
        error_limit_ns: Some(PRECISE_LIMIT),
        series: Vec::new(),
    }
}
