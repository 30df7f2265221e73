//! A guest turns itself off, however it is asked to: services first, in reverse order.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::{Command, Event, Record, Shutdown};
use noonmark_qemu::{Machine, Subscription};
use noonmark_tests::{build_spec, spec_with_trouble};

use crate::platform::{Guest, Images, Platform};

/// Asks the machine to end.
type Ask = fn(&mut Machine) -> Result<()>;

/// What a host can do about it, and the word by which PID 1 tells of it.
const WAYS: [(&str, &str, Ask); 3] = [
    ("the request", "the host asked", |machine| {
        Ok(machine.send(&Command::Shutdown(Shutdown::Poweroff))?)
    }),
    ("the power button", "power button", |machine| {
        Ok(machine.press_power_button()?)
    }),
    ("Ctrl-Alt-Del", "the kernel asked", |machine| {
        Ok(machine.press_ctrl_alt_del()?)
    }),
];

/// Two services; the second ends the machine as init(8) programs are told to, by SIGTERM.
const SERVICES: &str = r#"
[[service]]
name = "first"
exec = ["/trouble", "first-read"]
[[service]]
name = "second"
exec = ["/trouble", "end-machine"]
capabilities = ["CAP_SYS_BOOT"]
user = 0
"#;

/// A service that may write to PID 1's memory, and does.
const CRASH: &str = r#"
[[service]]
name = "crash-init"
exec = ["/trouble", "crash-init"]
capabilities = ["CAP_SYS_PTRACE"]
user = 0
"#;

pub fn off_in_each_way(platform: &Platform, images: &Images) -> Result<()> {
    for (way, word, ask) in WAYS {
        let mut config = platform.config(&images.base)?;
        config.test_port = false;
        let Guest {
            mut machine,
            records,
            ..
        } = platform.boot_config(config)?;
        let asked = Instant::now();
        ask(&mut machine).context(way)?;
        let told = off(&mut machine, &records, word).context(way)?;
        eprintln!("{way}: off {:.2} s later", asked.elapsed().as_secs_f64());
        ensure!(told.is_empty(), "{way}: services of a base image: {told:?}");
    }
    Ok(())
}

pub fn off_by_signal_services_first(platform: &Platform, _: &Images) -> Result<()> {
    let image = build_spec("power", &(spec_with_trouble()? + SERVICES))?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    let mut machine = Machine::start(&platform.qemu, config)?;
    let records = machine.subscribe();
    let ended = off(&mut machine, &records, "a program asked")?;
    let names: Vec<&str> = ended.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == ["second", "first"], "{ended:?}");
    ensure!(
        ended.iter().all(|(_, how)| how.contains("signal 15")),
        "not by SIGTERM: {ended:?}"
    );
    Ok(())
}

/// PID 1 executes what is no instruction: the machine ends as `on_failure` says, not in a kernel panic.
pub fn off_when_pid_1_fails(platform: &Platform, _: &Images) -> Result<()> {
    let image = build_spec("crash", &(spec_with_trouble()? + CRASH))?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    let mut machine = Machine::start(&platform.qemu, config)?;
    let deadline = Instant::now() + machine.timeouts().boot() + machine.timeouts().shutdown();
    let off = machine.wait_off(deadline)?;
    let console = machine.console_tail(60).join("\n");
    ensure!(off, "it is still on\n{console}");
    ensure!(console.contains("PID 1 failed: signal 4"), "{console}");
    ensure!(!console.contains("Kernel panic"), "{console}");
    Ok(())
}

/// Waits until the machine is off, and checks why, as PID 1 tells it. Gives the services that ended,
/// in their order, and how.
fn off(machine: &mut Machine, records: &Subscription, word: &str) -> Result<Vec<(String, String)>> {
    let deadline = Instant::now() + machine.timeouts().boot() + machine.timeouts().shutdown();
    if !machine.wait_off(deadline)? {
        bail!("it is still on\n{}", machine.console_tail(30).join("\n"));
    }
    let (mut why, mut ended) = (None, Vec::new());
    while let Ok(record) = records.next(deadline) {
        match record {
            Record::Event(record) => match record.event {
                Event::Shutdown { why: told } => why = Some(told),
                Event::Service { name, what } if !what.starts_with("started") => {
                    ended.push((name, what));
                }
                _ => {}
            },
            Record::Status(_) => {}
        }
    }
    ensure!(
        why.as_deref().is_some_and(|why| why.contains(word)),
        "told as {why:?}"
    );
    Ok(ended)
}
