//! The real ptp_kvm where the machine has no KVM of its own: by the command that a user calls, in an
//! emulated KVM host.

use std::fs;
use std::process::Output;

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::Cause;
use noonmark_contract::sample::{Method, Source};
use noonmark_contract::units::Nanos;
use noonmark_lab::report::document::Document;
use noonmark_lab::report::{Report, Sample};
use noonmark_qemu::accel::{self, Accelerator, Choice};
use noonmark_tests::{not_run, xtask};

use crate::platform::{self, Images, Platform};

/// An error within this is what ptp_kvm's readings allow.
const ERROR: Nanos = Nanos::from_micros(1);

/// In the guest, of the machine, of the host, and of both.
const FAULTS: [&str; 5] = [
    "date:2023-03-01T12:30",
    "step:-50ms",
    "host-step:-80ms",
    "host-rate:+200ppm",
    "migrate:host-step:+3s",
];

/// The accelerator by which ptp_kvm runs here: this machine's KVM, else an emulated host's.
///
/// # Errors
/// Neither can be had; why.
pub fn with_ptp_kvm(platform: &Platform) -> Result<Accelerator, String> {
    if platform.follows == Source::Kvm {
        return Ok(platform.decision.accelerator);
    }
    emulated_host(platform).map(|()| Accelerator::Nested)
}

/// Whether a KVM host can be emulated here, and may be.
///
/// # Errors
/// It can't or may not; why.
pub fn emulated_host(platform: &Platform) -> Result<(), String> {
    match platform::accel() {
        Ok(Choice::Auto | Choice::Nested) => {
            let decision = accel::choose(Choice::Nested, &platform.qemu);
            decision.map(drop).map_err(|error| error.to_string())
        }
        Ok(other) => Err(format!("--accel {other} was asked for")),
        Err(error) => Err(format!("{error:#}")),
    }
}

pub fn recovers_by_ptp_kvm_in_an_emulated_host(platform: &Platform, _: &Images) -> Result<()> {
    if let Err(error) = accel::choose(Choice::Nested, &platform.qemu) {
        return not_run(
            "recovers_by_ptp_kvm_in_an_emulated_host",
            &error.to_string(),
        );
    }
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("report.json");
    let mut command = xtask();
    command
        .args(["recover", "--accel", "nested", "--count", "1", "--qemu"])
        .arg(platform.qemu.path())
        .args(FAULTS.iter().flat_map(|name| ["--fault", name]))
        .arg("--json")
        .arg(&json);
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    check(&output, &json).with_context(|| told(&output))
}

/// What the command printed, the guest's events and an emulated host's end among it.
pub fn told(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn check(output: &Output, json: &std::path::Path) -> Result<()> {
    let text = fs::read(json).context("no report came out of the emulated host")?;
    let Document::Report(report) = Document::parse(&text)? else {
        bail!("recover wrote something else than a report");
    };
    let at = &report.environment;
    ensure!(at.accelerator == "nested", "{at:?}");
    ensure!(at.source == Some(Source::Kvm), "{at:?}");
    ensure!(at.method == Some(Method::Precise), "{at:?}");
    let emulated = report.host.emulated.as_ref();
    let emulated = emulated.with_context(|| format!("{:?}", report.host))?;
    ensure!(emulated.kvm == "kvm_amd", "{emulated:?}");
    ensure!(
        report.boot_exits.is_some_and(|exits| exits.hypercalls > 0),
        "the host's KVM counted {:?}",
        report.boot_exits
    );
    ensure!(report.not_run.is_empty(), "{:?}", report.not_run);
    let names: Vec<&str> = report.faults.iter().map(|fault| &*fault.fault).collect();
    ensure!(FAULTS.iter().all(|name| names.contains(name)), "{names:?}");
    for sample in samples(&report) {
        ensure!(sample.recovered_ns.is_some(), "{sample:?}");
        for error in [sample.before, sample.after] {
            let error = error.with_context(|| format!("no reading of ptp_kvm: {sample:?}"))?;
            ensure!(error.bound_ns.0 <= ERROR.0 / 2, "{error:?}: {sample:?}");
            ensure!(
                error.error_ns.abs() <= ERROR + error.bound_ns,
                "{error:?} against the host: {sample:?}"
            );
        }
    }
    // How far a clock was off meanwhile depends on how busy this machine is, so the gate's other limits are
    // not judged here. That the host's clock was moved at all shows in what was recorded of a rate; a step
    // can be repaired between two readings, but not without being told.
    let rate = report
        .series
        .iter()
        .find(|one| one.name == "host-rate:+200ppm");
    let largest = rate.and_then(|series| series.largest_from(Nanos::ZERO));
    ensure!(
        largest.is_some_and(|largest| largest >= Nanos(100)),
        "host-rate:+200ppm moved the host's clock by {largest:?}"
    );
    let steps = report
        .faults
        .iter()
        .filter(|fault| fault.fault == "host-step:-80ms");
    for sample in steps.flat_map(|fault| &fault.samples) {
        ensure!(sample.cause == Some(Cause::HostStep), "{sample:?}");
    }
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        output.status
    );
    Ok(())
}

fn samples(report: &Report) -> impl Iterator<Item = &Sample> {
    report.faults.iter().flat_map(|fault| &fault.samples)
}
