//! The fault matrix, one sample of a kind: the whole of it is `cargo xtask recover`.

use anyhow::{Result, bail, ensure};
use noonmark_qemu::experiment::fault::{Family, Fault};
use noonmark_qemu::experiment::plan::Plan;
use noonmark_qemu::experiment::report::{MeasuredBy, Report, Sample};
use noonmark_qemu::experiment::run;
use noonmark_sync::record::Cause;

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
            ensure!(sample.cause == Some(Cause::HostPause), "{sample:?}");
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

/// One sample of each, all of which must have recovered with nothing else gone wrong. How fast is
/// for `recover` to judge, on a machine that does nothing else.
fn experiment(guest: &mut Guest, platform: &Platform, names: &[&str]) -> Result<Report> {
    let faults: Result<Vec<Fault>, _> = names.iter().map(|name| name.parse()).collect();
    let plan = Plan {
        count: 1,
        ..Plan::new(faults?)
    };
    let outcome = run(&mut guest.machine, &plan, &platform.decision, &mut |_| {});
    if let Some(error) = outcome.error {
        bail!("{error}");
    }
    let report = outcome.report;
    ensure!(report.not_run.is_empty(), "{:?}", report.not_run);
    ensure!(report.faults.len() == names.len(), "{:?}", report.faults);
    for fault in &report.faults {
        for sample in &fault.samples {
            // How far a skewed clock gets before anybody looks is a matter of the host's load.
            let judged = fault.family != Family::Skew;
            let well = !judged || sample.violations.is_empty();
            ensure!(
                well && sample.recovered_ns.is_some(),
                "{}: {sample:?}",
                fault.fault
            );
            ensure!(!sample.trace.is_empty(), "no trace: {sample:?}");
        }
    }
    Ok(report)
}

fn samples<'a>(report: &'a Report, name: &'a str) -> impl Iterator<Item = &'a Sample> {
    let named = report
        .faults
        .iter()
        .filter(move |fault| fault.fault == name);
    named.flat_map(|fault| &fault.samples)
}
