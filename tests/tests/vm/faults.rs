//! The fault matrix, one sample of a kind: the whole of it is `cargo xtask recover`.

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::Cause;
use noonmark_contract::units::Nanos;
use noonmark_lab::fault::{Family, Fault, Plan, SKEW_ERROR_MAX};
use noonmark_lab::report::error::Finding;
use noonmark_lab::report::{MeasuredBy, Report, Sample};
use noonmark_lab::run::run;
use noonmark_tests::{not_run, xtask};

use crate::platform::{Guest, Images, Platform};

/// A frequency or tick that somebody else sets, and a storm of scrambles under load.
pub fn done_in_the_guest(platform: &Platform, images: &Images) -> Result<()> {
    let names = ["skew:+500ppm", "skew:tick-10%", "storm:10", "combined"];
    let mut guest = platform.boot(&images.test)?;
    guest.check(|guest| {
        let report = experiment(guest, platform, &names)?;
        for sample in samples(&report, "skew:tick-10%") {
            ensure!(sample.restored_ns.is_some(), "not restored: {sample:?}");
        }
        let storm: Vec<&Sample> = samples(&report, "storm:10").collect();
        ensure!(storm.len() == 10, "{} scrambles", storm.len());
        for (earlier, later) in storm.iter().zip(&storm[1..]) {
            ensure!(earlier.detail != later.detail, "twice {}", later.detail);
        }
        Ok(())
    })
}

/// A live migration, and a restoration from a file, with the devices that tell of it if there are
/// any.
pub fn moved_to_another_qemu(platform: &Platform, images: &Images) -> Result<()> {
    let names = ["pause:100ms+kick", "migrate", "restore:1s"];
    let mut guest = platform.boot(&images.test)?;
    guest.check(|guest| {
        let report = experiment(guest, platform, &names)?;
        for fault in &report.faults {
            for sample in &fault.samples {
                ensure!(
                    sample.measured_by == MeasuredBy::Host && sample.timing_bound_ns.is_some(),
                    "{}: {sample:?}",
                    fault.fault
                );
            }
        }
        for sample in samples(&report, "restore:1s") {
            let told = [Some(Cause::HostPause), Some(Cause::HostPauseOrStep)];
            ensure!(told.contains(&sample.cause), "{sample:?}");
        }
        Ok(())
    })
}

/// A host that closes the time channel, and one that is an hour off: the guest lets go of it and
/// comes back, and its clock is never set wrong.
pub fn sees_through_a_lying_host(platform: &Platform, images: &Images) -> Result<()> {
    let names = ["source-loss:channel", "liar:hour"];
    let mut guest = platform.boot(&images.test)?;
    guest.check(|guest| {
        let report = experiment(guest, platform, &names)?;
        for fault in &report.faults {
            for sample in &fault.samples {
                ensure!(sample.wrong_reads == 0, "{}: {sample:?}", fault.fault);
            }
        }
        Ok(())
    })
}

/// A NIC that is unplugged with the PHC that the guest follows, and plugged in again; by the command
/// that a user would call, because the guest needs a kernel of its own. A QEMU or an archive that has
/// no such thing is listed.
pub fn lets_go_of_an_unplugged_phc(platform: &Platform, _: &Images) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("report.json");
    let mut command = xtask();
    command.args(["recover", "--fault", "source-loss:phc", "--count", "1"]);
    command.args(["--accel", &platform.decision.accelerator.to_string()]);
    command.arg("--qemu").arg(platform.qemu.path());
    command.arg("--json").arg(&json);
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let said = || {
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        format!("{command:?}:\n{out}{err}")
    };
    let text = std::fs::read_to_string(&json).with_context(said)?;
    let report: Report = serde_json::from_str(&text)?;
    let lacking = ["this QEMU has no", "there is no guest with a driver"];
    let lacks = |reason: &str| lacking.iter().any(|start| reason.starts_with(start));
    if let Some(gap) = report.not_run.iter().find(|gap| lacks(&gap.reason)) {
        return not_run("lets_go_of_an_unplugged_phc", &gap.reason);
    }
    ensure!(output.status.success(), "{}", said());
    let sample = samples(&report, "source-loss:phc").next();
    let sample = sample.context("no sample")?;
    let source = sample.source.as_ref().map(ToString::to_string);
    ensure!(
        source.is_some_and(|source| source.starts_with("phc:")) && sample.wrong_reads == 0,
        "{sample:?}"
    );
    Ok(())
}

/// One sample of each, all of which must have recovered with nothing else gone wrong. How fast is
/// for `recover` to judge, on a machine that does nothing else.
fn experiment(guest: &mut Guest, platform: &Platform, names: &[&str]) -> Result<Report> {
    let faults: Result<Vec<Fault>, _> = names.iter().map(|name| name.parse()).collect();
    let plan = Plan {
        count: 1,
        ..Plan::new(faults?)
    };
    let no_nic = Err("this test does nothing that needs it".to_owned());
    let decision = &platform.decision;
    let outcome = run(&mut guest.machine, &plan, &no_nic, decision, &mut |_| {});
    if let Some(error) = outcome.error {
        bail!("{error}");
    }
    let report = outcome.report;
    ensure!(report.not_run.is_empty(), "{:?}", report.not_run);
    ensure!(report.faults.len() == names.len(), "{:?}", report.faults);
    for fault in &report.faults {
        for sample in &fault.samples {
            ensure!(
                violations(fault.family, sample).is_empty() && sample.recovered_ns.is_some(),
                "{}: {sample:?}",
                fault.fault
            );
            ensure!(!sample.trace.is_empty(), "no trace: {sample:?}");
            let limit = sample.error_limit_ns.context("no limit of its error")?;
            for error in [sample.before, sample.after] {
                let error =
                    error.with_context(|| format!("an error was not measured: {sample:?}"))?;
                ensure!(
                    error.judge(limit) == Finding::Within,
                    "{}: {error} against the host: {sample:?}",
                    fault.fault
                );
            }
        }
    }
    Ok(report)
}

/// What a sample did that it must not. How far a skewed clock gets, at most 10 % off, depends on when
/// PID 1 runs, and while QEMU's threads wait for a processor of the host, it does not: what the clock
/// gains in that time is the host's.
fn violations(family: Family, sample: &Sample) -> Vec<String> {
    if family != Family::Skew {
        return sample.violations.clone();
    }
    let accepted = SKEW_ERROR_MAX + Nanos(sample.waited_ns.map_or(0, |waited| waited.0 / 10));
    let beyond = (sample.worst_ns > accepted).then(|| {
        let worst = sample.worst_ns;
        format!("the error reached {worst}; at most {accepted} is accepted")
    });
    beyond.into_iter().collect()
}

fn samples<'a>(report: &'a Report, name: &'a str) -> impl Iterator<Item = &'a Sample> {
    let named = report
        .faults
        .iter()
        .filter(move |fault| fault.fault == name);
    named.flat_map(|fault| &fault.samples)
}
