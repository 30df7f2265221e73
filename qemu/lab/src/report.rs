//! The experiment's report: what `--json` writes. Nothing in it is estimated; what is not known is
//! `null`, and what did not run is listed with its reason.

pub mod bench;
pub mod compare;
pub mod document;
pub mod error;
pub mod evidence;
pub mod exits;
pub mod gate;
pub mod host;
pub mod limits;
pub mod merge;
pub mod series;
pub mod soak;
pub mod steady;

use noonmark_contract::record::{self, Boot, Cause, DetectedBy};
use noonmark_contract::sample::{Method, Source};
use noonmark_contract::testport::TracePoint;
use noonmark_contract::units::Nanos;
use serde::{Deserialize, Serialize};

use crate::fault::Family;
use crate::report::error::ClockError;
pub use crate::report::error::MeasuredBy;
use crate::report::evidence::Evidence;
use crate::report::exits::Exits;
use crate::report::host::Host;
use crate::report::limits::Limits;
use crate::report::series::ErrorSeries;
use crate::stats::percentile;

/// The report's format version.
pub const VERSION: u32 = 1;

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Format version: 1.
    pub v: u32,
    /// Where it was measured.
    pub environment: Environment,
    /// From this error on a read of the guest's clock counts as wrong.
    pub tolerance_ns: Nanos,
    /// Times of the boot; none where the guest never reported them.
    pub boot: Option<Boot>,
    /// Each fault with its samples, in the order in which they were done.
    pub faults: Vec<FaultReport>,
    /// Faults that were asked for and not done, or not to the end.
    pub not_run: Vec<NotRun>,
    /// The first fault after boot, which runs cold code; counted on its own.
    pub first: Option<FirstSample>,
    /// The longest time to recover that the run still accepts.
    pub max_recovery_ns: Nanos,
    /// The seed of the pauses between the samples.
    pub seed: u64,
    /// The version of this program.
    pub noonmark: String,
    /// What each source said of itself, e.g. why one could not be used.
    pub sources: Vec<record::SourceStatus>,
    /// What PID 1 cost just before the faults.
    pub init: Option<record::Usage>,
    /// The host.
    pub host: Host,
    /// VM exits from QEMU's start to the first sync; none where KVM does not count them for this
    /// program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_exits: Option<Exits>,
    /// When it was measured and what exactly ran; empty in reports of earlier versions.
    #[serde(default)]
    pub evidence: Evidence,
    /// The limits beside `max_recovery_ns` that it was held to.
    #[serde(default)]
    pub limits: Limits,
    /// The clock's error against the host's before the first fault, when its keeper had it in order:
    /// `synced` as PID 1 says it, or a peer that had settled. None in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<ClockError>,
    /// What that is held to where `limits` say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_limit_ns: Option<Nanos>,
    /// The clock against the host's over time, where that was recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<ErrorSeries>,
}

/// Where a report was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// QEMU's version, as its QMP greeting says it.
    pub qemu: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// The guest kernel's release.
    pub kernel: Option<String>,
    /// The guest kernel's clocksource.
    pub clocksource: Option<String>,
    /// The source that the guest followed when the faults began.
    pub source: Option<Source>,
    /// How it was read.
    pub method: Option<Method>,
    /// Virtual processors.
    pub vcpus: u32,
    /// Why this accelerator.
    pub accelerator_reason: String,
}

/// One fault's samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// The fault's name, as `--fault` takes it.
    pub fault: String,
    /// The family that it belongs to.
    #[serde(default)]
    pub family: Family,
    /// How many samples were asked for.
    pub requested: u32,
    /// What was measured, in order.
    pub samples: Vec<Sample>,
    /// Figures over the samples.
    pub summary: Summary,
}

/// One fault done once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// From the fault to the first of the reads that stayed within tolerance; none where the
    /// clock did not get right before the deadline.
    pub recovered_ns: Option<Nanos>,
    /// Reads of the guest's clock that were out of tolerance.
    pub wrong_reads: u64,
    /// The error that was left against the line through the clock's own offset before the fault, or
    /// at the end of a vigil: no measure of the truth, which is `after`.
    pub residual_ns: Nanos,
    /// What made PID 1 look, by its own record; none where no record came.
    pub detected_by: Option<DetectedBy>,
    /// What PID 1 took for the cause; none where no record came.
    pub cause: Option<Cause>,
    /// How far the observer itself may be wrong about `residual_ns`.
    pub residual_bound_ns: Nanos,
    /// The clock's error against the host's just before the fault; none in reports of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ClockError>,
    /// The same after the recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ClockError>,
    /// What both are held to where the report's limits say nothing: it depends on the source that the
    /// guest followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_limit_ns: Option<Nanos>,
    /// All reads of the guest's clock.
    pub reads: u64,
    /// The largest error that a read saw.
    pub worst_ns: Nanos,
    /// PID 1's own account: from detection to its verifying reading.
    pub repair_ns: Option<Nanos>,
    /// Who timed it.
    #[serde(default)]
    pub measured_by: MeasuredBy,
    /// How far `recovered_ns` itself may be wrong; none where one clock timed both ends.
    #[serde(default)]
    pub timing_bound_ns: Option<Nanos>,
    /// Counts the fault's samples from 1; 0 is the first fault after boot.
    #[serde(default)]
    pub number: u32,
    /// In which of the run's boots it was taken, from 1; 0 in reports of earlier versions. Samples of
    /// one boot are not independent of each other.
    #[serde(default)]
    pub boot: u32,
    /// What this sample's own random choices were drawn from.
    #[serde(default)]
    pub seed: u64,
    /// The command that does this sample again.
    #[serde(default)]
    pub replay: String,
    /// What else must not have happened and did, in words: a step to a wrong time, an error beyond
    /// the fault's limit. A sample with any of it has failed, however fast it recovered.
    #[serde(default)]
    pub violations: Vec<String>,
    /// The error (guest minus truth) against the time since the fault.
    #[serde(default)]
    pub trace: Vec<TracePoint>,
    /// What was done where the fault's name leaves that open, and what else was measured; in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The source that the guest followed just before, where it is not the report's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Where the frequency was changed: until it stayed what it had been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_ns: Option<Nanos>,
    /// Time that QEMU's threads together were ready to run and had no processor, from before the
    /// fault until after the last read; none where the host's kernel does not count it. A recovery
    /// that took long while this is of its size tells of the host, not of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_ns: Option<Nanos>,
    /// VM exits from before the fault until after the last read; none where KVM does not count them for
    /// this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exits: Option<Exits>,
    /// The clock's error against the host's over time, where it was recorded; a report has it in
    /// [`Report::series`].
    #[serde(skip)]
    pub series: Option<Box<ErrorSeries>>,
}

/// So many samples it takes for a 99th percentile to be another than the longest of them.
pub const P99_SAMPLES: u32 = 100;

/// Figures over one fault's samples, all by the nearest-rank method. A clock that did not get right
/// counts as one that takes for ever; a figure that is for ever is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Samples taken.
    pub count: u32,
    /// Samples in which the clock got right before the deadline.
    pub recovered: u32,
    /// Median time to recover.
    pub p50_ns: Option<Nanos>,
    /// 99th percentile; none of fewer than [`P99_SAMPLES`] samples.
    pub p99_ns: Option<Nanos>,
    /// The longest.
    pub max_ns: Option<Nanos>,
}

/// The first fault after boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstSample {
    /// The fault's name.
    pub fault: String,
    /// What was measured.
    #[serde(flatten)]
    pub sample: Sample,
}

/// A fault that was not done, or not to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// The fault's name.
    pub fault: String,
    /// Why, in words.
    pub reason: String,
}

impl Summary {
    /// The figures of these samples.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Self {
        let mut times: Vec<Nanos> = samples.iter().map(Sample::time).collect();
        times.sort_unstable();
        let count = u32::try_from(samples.len()).unwrap_or(u32::MAX);
        let recovered = samples.iter().filter(|s| s.recovered_ns.is_some()).count();
        let finite = |time: Option<Nanos>| time.filter(|time| *time != Nanos::MAX);
        let figure = |percent| finite(percentile(&times, percent));
        Self {
            count,
            recovered: u32::try_from(recovered).unwrap_or(u32::MAX),
            p50_ns: figure(50),
            p99_ns: figure(99).filter(|_| count >= P99_SAMPLES),
            max_ns: figure(100),
        }
    }

    /// Whether some samples took for ever, so that a figure that is none may be that.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.recovered < self.count
    }
}

impl Sample {
    /// The time to recover; [`Nanos::MAX`] where the clock did not.
    #[must_use]
    pub fn time(&self) -> Nanos {
        self.recovered_ns.unwrap_or(Nanos::MAX)
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{self, sample};

    use super::*;

    #[test]
    fn what_did_not_recover_took_for_ever_in_every_figure() {
        let summary = Summary::of(&[sample(Some(600)), sample(None), sample(Some(400))]);
        assert_eq!((summary.count, summary.recovered), (3, 2));
        assert_eq!(summary.p50_ns, Some(Nanos::from_micros(600)));
        assert_eq!(summary.max_ns, None);
        let most = Summary::of(&[sample(None), sample(None), sample(Some(400))]);
        assert_eq!(most.p50_ns, None);
        assert_eq!(Summary::of(&[]).p50_ns, None);
    }

    #[test]
    fn a_99th_percentile_takes_a_hundred_samples() {
        let mut samples: Vec<Sample> = (1..=99).map(|us| sample(Some(us))).collect();
        assert_eq!(Summary::of(&samples).p99_ns, None);
        samples.push(sample(None));
        let summary = Summary::of(&samples);
        assert_eq!(summary.p99_ns, Some(Nanos::from_micros(99)));
        assert_eq!(summary.max_ns, None);
    }

    #[test]
    fn the_json_has_the_agreed_keys_in_the_agreed_order() {
        let report = Report {
            faults: vec![fixture::fault("step:-1h", &[600])],
            first: None,
            ..fixture::report()
        };
        let text = serde_json::to_string(&report).unwrap();
        let expected = concat!(
            r#"{"v":1,"environment":{"qemu":"10.0.2 (Debian 1:10.0.2)","accelerator":"tcg","#,
            r#""kernel":"6.1.0-56-cloud-amd64","clocksource":"kvm-clock","source":"kvm","#,
            r#""method":"precise","vcpus":2,"accelerator_reason":"it was asked for"},"#,
            r#""tolerance_ns":1000000,"boot":{"kernel_to_init_ns":2400000000,"#,
            r#""init_to_synced_ns":120000000},"faults":[{"fault":"step:-1h","family":"step","#,
            r#""requested":1,"samples":[{"recovered_ns":600000,"wrong_reads":210,"#,
            r#""residual_ns":-72,"detected_by":"cancel_on_set","cause":"guest_step","#,
            r#""residual_bound_ns":100,"before":{"error_ns":5,"bound_ns":10},"#,
            r#""after":{"error_ns":-72,"bound_ns":10},"error_limit_ns":1000,"reads":5000,"worst_ns":3600000000000,"#,
            r#""repair_ns":400000,"measured_by":"observer","timing_bound_ns":null,"number":0,"#,
            r#""boot":1,"seed":0,"replay":"","violations":[],"trace":[]}],"summary":{"count":1,"#,
            r#""recovered":1,"p50_ns":600000,"p99_ns":null,"max_ns":600000}}],"not_run":[],"#,
            r#""first":null,"max_recovery_ns":50000000,"seed":1,"noonmark":"0.1.0","#,
            r#""sources":[{"source":"vmclock","good":0,"bad":1,"reach":0,"#,
            r#""last_failure":"no such device"}],"init":{"cpu_ppm":3100,"rss_kib":900},"#,
            r#""host":{"kernel":null,"cpu":null,"cpus":2,"qemu_waited_share":0.25},"#,
            r#""evidence":{"measured_at":null,"manifest_sha256":null,"kernel_sha256":null,"#,
            r#""initrd_sha256":null,"qemu_sha256":null,"firmware_sha256":null},"#,
            r#""limits":{"default":{"p50_ns":null,"p99_ns":null,"max_recovery_ns":null,"#,
            r#""residual_ns":null,"unrecovered":null},"family":{},"fault":{}},"#,
            r#""synced":{"error_ns":-3,"bound_ns":10},"error_limit_ns":1000}"#
        );
        assert_eq!(text, expected);
    }
}
