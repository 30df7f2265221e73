//! How machines end, wanted or not.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::{Command, Event, Record, Shutdown};
use noonmark_image::artifact::{CMDLINE, INITRD, KERNEL};
use noonmark_qemu::accel::Accelerator;
use noonmark_qemu::{Machine, runtime_dir};
use noonmark_tests::{not_run, xtask};

use crate::nested;
use crate::platform::{Images, Platform};

/// How long `recover` may take to start its machine, the image being there.
const STARTED: Duration = Duration::from_secs(60);

/// How long a process may take to be gone after its signal.
const GONE: Duration = Duration::from_secs(10);

pub fn restarts_when_told(platform: &Platform, images: &Images) -> Result<()> {
    let mut guest = platform.boot(&images.base)?;
    guest.check(|guest| {
        guest.machine.send(&Command::Shutdown(Shutdown::Reboot))?;
        let deadline = Instant::now() + guest.machine.timeouts().shutdown();
        loop {
            let record = guest
                .machine
                .record(&guest.records, "the shutdown record", deadline)?;
            if let Record::Event(record) = record
                && let Event::Shutdown { .. } = record.event
            {
                return Ok(());
            }
        }
    })
}

pub fn a_dead_guest_is_told(platform: &Platform, images: &Images) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for file in [KERNEL, CMDLINE] {
        fs::copy(images.base.join(file), folder.path().join(file))?;
    }
    // Half an initrd has no /init that the kernel could start.
    let initrd = fs::read(images.base.join(INITRD))?;
    fs::write(folder.path().join(INITRD), &initrd[..initrd.len() / 2])?;
    let mut machine = Machine::start(&platform.qemu, platform.config(folder.path())?)?;
    let records = machine.subscribe();
    let error = match machine.wait_synced(&records, |_| {}) {
        Ok(_) => bail!("a guest without a whole initrd came up"),
        Err(error) => error.to_string(),
    };
    ensure!(error.contains("Kernel panic"), "no console in: {error}");
    Ok(())
}

pub fn interrupted_leaves_nothing(platform: &Platform, _: &Images) -> Result<()> {
    // From before the image is looked at to well into the experiment.
    for after in [0.05, 0.6, 1.5, 4.0, 8.0] {
        let before = (runtime_dir::live(), machines()?);
        let mut child = recover(platform, platform.decision.accelerator)?;
        thread::sleep(Duration::from_secs_f64(after));
        signal(&child, "INT")?;
        let status = wait(&mut child)?;
        ensure!(
            !status.success(),
            "interrupted after {after} s, it ended with {status}"
        );
        let left = (runtime_dir::live(), machines()?);
        ensure!(
            left == before,
            "interrupted after {after} s, it left {left:?}, not {before:?}"
        );
    }
    Ok(())
}

pub fn an_emulated_host_leaves_nothing(platform: &Platform, _: &Images) -> Result<()> {
    if let Err(why) = nested::emulated_host(platform) {
        return not_run("an_emulated_host_that_is_interrupted_leaves_nothing", &why);
    }
    let before = (runtime_dir::live(), machines()?);
    for (word, after) in [("INT", 1.0), ("INT", 20.0), ("KILL", 6.0)] {
        let mut child = recover(platform, Accelerator::Nested)?;
        let deadline = Instant::now() + STARTED;
        while machines()? == before.1 {
            ensure!(Instant::now() < deadline, "recover started no machine");
            thread::sleep(Duration::from_millis(50));
        }
        // From the host's boot to well into its guest's.
        thread::sleep(Duration::from_secs_f64(after));
        signal(&child, word)?;
        wait(&mut child)?;
        let deadline = Instant::now() + GONE;
        while (runtime_dir::live(), machines()?) != before {
            ensure!(
                Instant::now() < deadline,
                "SIG{word} {after} s after the emulated host's start left something"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

pub fn killed_leaves_no_qemu(platform: &Platform, _: &Images) -> Result<()> {
    let before = machines()?;
    let mut child = recover(platform, platform.decision.accelerator)?;
    let deadline = Instant::now() + STARTED;
    while machines()? == before {
        ensure!(Instant::now() < deadline, "recover started no machine");
        thread::sleep(Duration::from_millis(50));
    }
    signal(&child, "KILL")?;
    wait(&mut child)?;
    let deadline = Instant::now() + GONE;
    while machines()? != before {
        ensure!(Instant::now() < deadline, "QEMU outlived its owner");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The processes that run a machine of ours, by what their arguments name.
fn machines() -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry.context("/proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has ended meanwhile has no arguments any more.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&arguments).contains("name=noonmark.") {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// `cargo xtask recover` in a process group of its own, as a shell starts it.
fn recover(platform: &Platform, accelerator: Accelerator) -> Result<Child> {
    let mut command = xtask();
    command
        .args(["recover", "--count", "50", "--qemu"])
        .arg(platform.qemu.path())
        .args(["--accel", &accelerator.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))
}

/// As a terminal does on Ctrl-C: to the whole group.
fn signal(child: &Child, name: &str) -> Result<()> {
    let group = format!("-{}", child.id());
    let status = Process::new("kill")
        .args(["-s", name, "--", &group])
        .status()?;
    ensure!(status.success(), "kill -s {name} {group}: {status}");
    Ok(())
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus> {
    let deadline = Instant::now() + GONE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        ensure!(
            Instant::now() < deadline,
            "process {} did not end",
            child.id()
        );
        thread::sleep(Duration::from_millis(20));
    }
}
