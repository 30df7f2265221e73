//! Other programs in PID 1's place, in the same guest.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_lab::fault::Family;
use noonmark_lab::report::bench::{Bench, PeerRun};
use noonmark_lab::report::document::Document;
use noonmark_lab::report::steady::SteadyState;
use noonmark_tests::{not_run, xtask};

use crate::nested;
use crate::platform::{Images, Platform};

/// The peer of the shortest experiment, and its package.
const PEER: &str = "phc2sys";
const PACKAGE: &str = "linuxptp";

pub fn a_peer_is_measured_beside_pid_1(platform: &Platform, _: &Images) -> Result<()> {
    let accelerator = match nested::with_ptp_kvm(platform) {
        Ok(accelerator) => accelerator,
        Err(why) => return not_run("a_peer_is_measured_beside_pid_1", &why),
    };
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("bench.json");
    let mut command = xtask();
    command
        .args(["bench", "--peer", PEER, "--count", "1"])
        .args(["--fault", "step:+500ms", "--fault", "pause:1s"])
        .args(["--steady", "2s", "--qemu"])
        .arg(platform.qemu.path())
        .args(["--accel", &accelerator.to_string()])
        .arg("--json")
        .arg(&json);
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let told = nested::told(&output);
    let text = fs::read(&json).with_context(|| format!("no report: {told}"))?;
    let Document::Bench(bench) = Document::parse(&text)? else {
        bail!("bench wrote something else than a bench");
    };
    let no_package = format!("package {PACKAGE}");
    let gap = bench
        .missing
        .iter()
        .find(|gap| gap.reason.starts_with(&no_package));
    if let Some(gap) = gap {
        ensure!(
            !output.status.success(),
            "a peer is missing, and the exit status is 0"
        );
        return not_run("a_peer_is_measured_beside_pid_1", &gap.reason);
    }
    check(&bench).with_context(|| told.clone())?;
    ensure!(output.status.success(), "{}: {told}", output.status);
    Ok(())
}

fn check(bench: &Bench) -> Result<()> {
    ensure!(bench.missing.is_empty(), "missing: {:?}", bench.missing);
    let [ours, peer] = &*bench.runs else {
        bail!(
            "{} runs, expected noonmark's and the peer's",
            bench.runs.len()
        );
    };
    for run in [ours, peer] {
        recovered(run).with_context(|| run.peer.clone())?;
        let steady = run.steady.as_ref().context("no steady state")?;
        ensure!(
            steady.failed == 0 && steady.offsets_ns.len() >= 20,
            "{steady:?}"
        );
        ensure!(
            steady.keeper.is_some(),
            "what keeps the clock was not found"
        );
    }
    let kept = ours.steady.as_ref().and_then(SteadyState::bound_kept);
    ensure!(
        kept.is_some_and(|kept| kept.held >= 20 && kept.beyond == 0),
        "{kept:?}"
    );
    // PID 1 has seen none of what the peer repaired: it leaves that guest's clock alone.
    let samples = peer.report.faults.iter().flat_map(|fault| &fault.samples);
    for sample in samples {
        ensure!(
            sample.cause.is_none() && sample.repair_ns.is_none(),
            "{sample:?}"
        );
    }
    ensure!(
        peer.packages
            .iter()
            .any(|package| package.name == PACKAGE && package.sha256.len() == 64),
        "{:?}",
        peer.packages
    );
    Ok(())
}

fn recovered(run: &PeerRun) -> Result<()> {
    let faults = &run.report.faults;
    ensure!(faults.len() == 2, "{} faults, expected 2", faults.len());
    for fault in faults {
        ensure!(fault.summary.recovered == 1, "{:?}", fault.samples);
        // On a busy machine the clock can be right before the observer runs again: then it was PID 1
        // who saw the step.
        let sample = &fault.samples[0];
        let seen = sample.wrong_reads > 0 || sample.repair_ns.is_some();
        let is_seen = seen || fault.family != Family::Step;
        ensure!(is_seen, "nobody saw {}: {sample:?}", fault.fault);
    }
    Ok(())
}
