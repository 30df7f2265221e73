//! A PID 1 that stands still has the machine reset; one that runs, and one that ends it, don't.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_qemu::{Config, Device, ExitCause, Machine, MachineError};
use noonmark_tests::{build_spec, spec_with_trouble};

use crate::platform::{Images, Platform};

/// Debian's kernel for all machines, which has the driver of QEMU's watchdog.
const DEVICE: &str = "[kernel]\npackage = \"linux-image-amd64\"\n[watchdog]\ntimeout_s = 10\n";

/// The kernel's own timer, which the kernel for clouds has too.
const TIMER: &str = "[watchdog]\ntimeout_s = 10\ndriver = \"softdog\"\n";

/// Takes PID 1's processor for itself after 25 s: by then two times have passed in which a watchdog that
/// isn't heard would have reset the machine.
const STOP: &str = "[[service]]\nname = \"stop-init\"\nexec = [\"/trouble\", \"stop-init\", \"25\"]\n\
                    capabilities = [\"CAP_SYS_NICE\"]\nsystem_call_filter = \"none\"\nuser = 0\n";

pub fn resets_a_machine_whose_pid_1_stands_still(platform: &Platform, _: &Images) -> Result<()> {
    stands_still(platform, "softdog", TIMER).context("softdog")?;
    stands_still(platform, "i6300esb", DEVICE).context("i6300esb")?;
    ends_in_order(platform).context("an orderly end")
}

fn config(platform: &Platform, image: PathBuf) -> Result<Config> {
    let mut config = platform.config(&image)?;
    config.test_port = false;
    config.devices.push(Device::Watchdog);
    Ok(config)
}

fn stands_still(platform: &Platform, name: &str, spec: &str) -> Result<()> {
    let image = build_spec(name, &(spec_with_trouble()? + spec + STOP))?;
    let mut guest = platform.boot_config(config(platform, image)?)?;
    let timeouts = guest.machine.timeouts();
    let outcome = guest
        .machine
        .wait_off(Instant::now() + timeouts.boot() + timeouts.answer());
    let tail = guest.tail();
    match outcome {
        Err(MachineError::Exited(exit)) if exit.cause == ExitCause::Rebooted => {}
        outcome => bail!("it ended with {outcome:?}, expected a reset\n{tail}"),
    }
    ensure!(tail.contains("PID 1 is stopped"), "reset too soon\n{tail}");
    Ok(())
}

/// The watchdog is told to stop before the machine is off, which the kernel would tell otherwise.
fn ends_in_order(platform: &Platform) -> Result<()> {
    let image = build_spec("watchdog", DEVICE)?;
    let mut machine = Machine::start(&platform.qemu, config(platform, image)?)?;
    let records = machine.subscribe();
    machine.wait_synced(&records, |_| {})?;
    let deadline = Instant::now() + machine.timeouts().shutdown();
    machine.press_power_button()?;
    let off = machine.wait_off(deadline)?;
    let console = machine.console_tail(60).join("\n");
    ensure!(off, "it is still on\n{console}");
    ensure!(!console.contains("watchdog did not stop"), "{console}");
    ensure!(!console.contains("[watchdog]"), "{console}");
    Ok(())
}
