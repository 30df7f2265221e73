//! A clock that is wrong and called synced does not pass, however well it is put back.

use anyhow::{Result, anyhow, bail, ensure};
use noonmark_contract::units::Nanos;
use noonmark_lab::fault::Plan;
use noonmark_lab::report::Report;
use noonmark_lab::report::gate::Verdict;
use noonmark_lab::run::run;
use noonmark_qemu::Machine;
use noonmark_qemu::time_server::Behaviour;

use crate::platform::{Images, Platform};

/// How far the host's time server is off, from the first question on.
const LIE: Nanos = Nanos::from_millis(30);

/// How much of that the guest's and the observer's own errors may hide.
const SHARE: i64 = 2;

/// The guest's only source is the host's time channel, and the host's answers are 30 ms off: its PID 1
/// can't know, is synced, and puts back what a fault does to within microseconds of where the clock was.
/// By the host's clock itself, which the experiment asks, it is 30 ms off throughout.
pub fn a_wrong_clock_that_is_called_synced_fails(
    platform: &Platform,
    images: &Images,
) -> Result<()> {
    let mut machine = Machine::start(&platform.qemu, platform.config(&images.test)?)?;
    machine.set_time_server_behaviour(Behaviour::Offset(LIE));
    let plan = Plan {
        count: 1,
        ..Plan::new(vec!["step:+500ms".parse()?])
    };
    let no_nic = Err("this test does nothing that needs it".to_owned());
    let outcome = run(
        &mut machine,
        &plan,
        &no_nic,
        &platform.decision,
        &mut |_| {},
    );
    let tail = || machine.console_tail(30).join("\n");
    if let Some(error) = outcome.error {
        bail!("{error}\n{}", tail());
    }
    check(&outcome.report).map_err(|error| anyhow!("{error:#}: {:?}\n{}", outcome.report, tail()))
}

fn check(report: &Report) -> Result<()> {
    let [fault] = &*report.faults else {
        bail!("{} faults", report.faults.len());
    };
    let [sample] = &*fault.samples else {
        bail!("{} samples", fault.samples.len());
    };
    ensure!(
        sample.recovered_ns.is_some() && sample.residual_ns.abs() < Nanos::from_millis(1),
        "by the line that it follows the clock is right again"
    );
    for error in [report.synced, sample.before, sample.after] {
        let told = error.is_some_and(|error| error.worst() > Nanos(LIE.0 / SHARE));
        ensure!(told, "an error of {LIE} was not seen: {error:?}");
    }
    let Verdict::Failed { reasons } = report.verdict() else {
        bail!("it passed");
    };
    for what in [
        "before the first fault",
        "before the fault",
        "after the recovery",
    ] {
        let told = reasons.iter().any(|reason| reason.contains(what));
        ensure!(told, "nothing failed {what}: {reasons:?}");
    }
    Ok(())
}
