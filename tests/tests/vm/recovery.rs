//! The clock gets right again after what disturbs it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::{Cause, DetectedBy, Event, Record};
use noonmark_contract::sample::{Method, Source};
use noonmark_contract::units::Nanos;
use noonmark_lab::fault::{Fault, Plan};
use noonmark_lab::report::error::Finding;
use noonmark_lab::report::{MeasuredBy, Report, Sample};
use noonmark_lab::run::run;
use noonmark_qemu::Kick;

use crate::platform::{Guest, Images, Platform};

/// Samples of each fault; the whole experiment is `cargo xtask recover`.
const SAMPLES: u32 = 3;

/// How long the pauses last.
const PAUSE: Duration = Duration::from_secs(2);

/// What the clock's error is held to by default where the guest reads the host's clock by ptp_kvm.
const KVM_ERROR: Nanos = Nanos::from_micros(1);

/// And where it has the host's time channel alone.
const CHANNEL_ERROR: Nanos = Nanos::from_millis(5);

pub fn by_ptp_kvm(platform: &Platform, images: &Images) -> Result<()> {
    let mut guest = platform.boot(&images.test)?;
    guest.check(|guest| {
        let report = scramble(guest, platform)?;
        ensure!(
            report.environment.source == Some(Source::Kvm),
            "{:?}",
            report.environment
        );
        ensure!(
            report.environment.method == Some(Method::Precise),
            "{:?}",
            report.environment
        );
        ensure_held_to(&report, KVM_ERROR, MeasuredBy::Observer)
    })
}

pub fn by_the_host_channel(platform: &Platform, images: &Images) -> Result<()> {
    let mut guest = platform.boot(&images.test)?;
    guest.check(|guest| {
        let report = scramble(guest, platform)?;
        ensure!(
            report.environment.source == Some(Source::Host),
            "{:?}",
            report.environment
        );
        ensure_held_to(&report, CHANNEL_ERROR, MeasuredBy::Host)
    })
}

pub fn on_one_processor(platform: &Platform, images: &Images) -> Result<()> {
    let mut config = platform.config(&images.test)?;
    config.vcpus = 1;
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| scramble(guest, platform).map(drop))
}

pub fn after_a_pause(platform: &Platform, images: &Images) -> Result<()> {
    let mut guest = platform.boot(&images.test)?;
    guest.check(|guest| {
        let behind = pause_for(guest, PAUSE)?;
        guest.machine.resume(Kick::Withheld)?;
        let (disrupted, recovered) = disruption(guest)?;
        let Event::Disrupted {
            cause,
            detected_by,
            offset_ns,
        } = disrupted
        else {
            unreachable!("disruption() returns such an event")
        };
        // Emulated, the processor's counter stands still with the machine, as it does for a step.
        let told = [Cause::HostPause, Cause::HostPauseOrStep];
        ensure!(told.contains(&cause), "cause {cause:?}");
        ensure!(
            detected_by == DetectedBy::WatchTick,
            "detected by {detected_by:?}"
        );
        ensure_close(offset_ns, behind)?;
        ensure_repaired(&recovered)
    })
}

pub fn when_kicked(platform: &Platform, images: &Images) -> Result<()> {
    let mut guest = platform.boot(&images.test)?;
    guest.check(|guest| {
        let behind = pause_for(guest, PAUSE)?;
        guest.machine.resume(Kick::Sent)?;
        let (disrupted, recovered) = disruption(guest)?;
        let Event::Disrupted {
            detected_by,
            offset_ns,
            ..
        } = disrupted
        else {
            unreachable!("disruption() returns such an event")
        };
        // Whichever comes first may win; both must lead to a repair.
        ensure!(
            matches!(detected_by, DetectedBy::Kick | DetectedBy::WatchTick),
            "detected by {detected_by:?}"
        );
        ensure_close(offset_ns, behind)?;
        ensure_repaired(&recovered)
    })
}

/// All of `recover`'s faults, each of which must recover.
pub fn scramble(guest: &mut Guest, platform: &Platform) -> Result<Report> {
    let mut plan = Plan::new(Fault::defaults());
    plan.count = SAMPLES;
    let no_nic = Err("this test does nothing that needs it".to_owned());
    let decision = &platform.decision;
    let outcome = run(&mut guest.machine, &plan, &no_nic, decision, &mut |_| {});
    if let Some(error) = outcome.error {
        return Err(error).context("the experiment did not get to its end");
    }
    let report = outcome.report;
    ensure!(report.not_run.is_empty(), "not run: {:?}", report.not_run);
    ensure!(
        report.faults.len() == plan.faults.len(),
        "{} faults",
        report.faults.len()
    );
    for fault in &report.faults {
        ensure!(
            fault.summary.recovered == SAMPLES,
            "{}: {} of {SAMPLES} recovered: {:?}",
            fault.fault,
            fault.summary.recovered,
            fault.samples
        );
    }
    let mut at_once = 0;
    for sample in samples(&report) {
        ensure!(sample.cause == Some(Cause::GuestStep), "cause: {sample:?}");
        match sample.detected_by {
            Some(DetectedBy::CancelOnSet) => at_once += 1,
            // A tick that was under way when the clock was set saw it first.
            Some(DetectedBy::WatchTick) => {}
            _ => bail!("detected by: {sample:?}"),
        }
    }
    let all = samples(&report).count();
    ensure!(
        at_once * 3 >= all * 2,
        "the cancel-on-set timer told of {at_once} of {all}"
    );
    Ok(report)
}

/// Before the first fault, before each fault and after each recovery the clock was right by the host's:
/// not by the line through its own offset before the fault, which leaves the host's clock where that is
/// slewed meanwhile, and which a clock that was wrong before comes back to as well.
fn ensure_held_to(report: &Report, limit: Nanos, by: MeasuredBy) -> Result<()> {
    ensure!(
        report.error_limit_ns == Some(limit),
        "{:?}",
        report.error_limit_ns
    );
    let around = samples(report).flat_map(|sample| [sample.before, sample.after]);
    for error in around.chain([report.synced]) {
        let error = error.with_context(|| format!("an error was not measured: {report:?}"))?;
        ensure!(
            error.measured_by == by && error.judge(limit) == Finding::Within,
            "{error} against the host, by {:?}: {report:?}",
            error.measured_by
        );
    }
    Ok(())
}

fn samples(report: &Report) -> impl Iterator<Item = &Sample> {
    report.faults.iter().flat_map(|fault| &fault.samples)
}

/// Stops the machine for a while; gives how long it stood still, at least.
fn pause_for(guest: &mut Guest, pause: Duration) -> Result<Nanos> {
    guest.machine.pause()?;
    let stopped = Instant::now();
    thread::sleep(pause);
    Ok(Nanos(i64::try_from(stopped.elapsed().as_nanos())?))
}

/// The next disruption and its repair.
fn disruption(guest: &mut Guest) -> Result<(Event, Event)> {
    let deadline = Instant::now() + guest.machine.timeouts().recovery();
    let mut disrupted = None;
    loop {
        let awaited = "a disruption and its repair";
        let Record::Event(record) = guest.machine.record(&guest.records, awaited, deadline)? else {
            continue;
        };
        match record.event {
            event @ Event::Disrupted { .. } => disrupted = Some(event),
            event @ Event::Recovered { .. } => {
                return Ok((disrupted.context("a repair without a disruption")?, event));
            }
            _ => {}
        }
    }
}

/// The clock stood still for the pause and what it takes to stop and resume a machine.
fn ensure_close(offset: Nanos, behind: Nanos) -> Result<()> {
    ensure!(
        offset >= behind && offset <= behind + Nanos::from_secs(5),
        "offset {offset} after standing still for {behind}"
    );
    Ok(())
}

/// A repair leaves the clock right within the bound that it states.
fn ensure_repaired(recovered: &Event) -> Result<()> {
    let Event::Recovered {
        residual_ns,
        bound_ns,
        ..
    } = recovered
    else {
        unreachable!("disruption() returns such an event")
    };
    ensure!(
        residual_ns.abs() <= *bound_ns,
        "residual {residual_ns} beyond bound {bound_ns}"
    );
    Ok(())
}
