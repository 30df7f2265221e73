//! The side in the emulated host: takes files and a command, runs it, and sends back what it says and
//! writes.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use noonmark_linux::ports;
use noonmark_qemu::kvm_host::{DESCRIPTION, LINK_PORT, STATUS_PORT};
use rustix::mount::{MountFlags, mount, mount_remount};
use rustix::process::{Pid, Signal, kill_process};

use super::frame::{self, Command, Order, Report, SHARES, SharedFolder};
use super::port::{Port, report};
use super::{input, relay, requests, terminal};

/// How often it is looked whether the command has written a file.
const LOOK: Duration = Duration::from_millis(300);

/// Serves the outside until it is gone.
///
/// # Errors
///
/// There is no such port here, or what comes over it makes no sense.
pub fn serve() -> Result<()> {
    let orders = port(LINK_PORT)?;
    let reports: Port = Arc::new(Mutex::new(orders.try_clone()?));
    let served = take_orders(orders, &reports);
    if let Err(error) = &served {
        // Else the outside would wait for ever.
        report(&reports, &Report::Ended(Err(format!("{error:#}"))), &[])?;
    }
    served
}

fn take_orders(mut orders: File, reports: &Port) -> Result<()> {
    // What is sent here lies where it lies outside, and PID 1 has made that read-only.
    mount_remount("/", MountFlags::empty(), c"").context("cannot make / writable")?;
    // Where KVM counts VM exits.
    let debugfs = "/sys/kernel/debug";
    mount("debugfs", debugfs, "debugfs", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {debugfs}"))?;
    relay::start(port(STATUS_PORT)?)?;
    let suspended = requests::serve(reports)?;
    report(reports, &Report::Ready(kvm()), &[])?;
    let mut running = None;
    let mut input = None;
    loop {
        let (order, body) = frame::read::<Order>(&mut orders)?;
        match order {
            Order::File { path } => write(&path, &body)?,
            Order::Run(command) => match start(*command, reports) {
                Ok((child, stdin)) => {
                    running = Some(child);
                    input = stdin;
                }
                Err(error) => {
                    let ended = Report::Ended(Err(format!("{error:#}")));
                    report(reports, &ended, &[])?;
                }
            },
            Order::Input => {
                if let Some(stdin) = &input {
                    // The command has ended where nobody writes it any more.
                    let _ = stdin.send(body);
                }
            }
            Order::Suspended(outcome) => {
                // Who asked may be gone by now.
                let _ = suspended.send(outcome);
            }
            Order::Interrupt => {
                if let Some(child) = running {
                    // One that has ended already needs no signal.
                    let _ = kill_process(child, Signal::INT);
                }
            }
        }
    }
}

/// The virtio-serial port of this name, opened so that a read waits.
fn port(name: &str) -> Result<File> {
    let device = ports::find(Path::new(ports::CLASS), Path::new("/dev"), name)
        .with_context(|| format!("this is not the emulated KVM host: it has no port {name}"))?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(&device)
        .with_context(|| format!("cannot open {}", device.display()))
}

/// Whether KVM works here.
fn kvm() -> Result<(), String> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    opened.map_err(|error| format!("its kernel has no working KVM: /dev/kvm: {error}"))?;
    let clocksource = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match fs::read_to_string(clocksource) {
        Ok(found) if found.trim() == "tsc" => Ok(()),
        Ok(found) => Err(format!(
            "its clocksource is {}, and KVM pairs no clock but the TSC's",
            found.trim()
        )),
        Err(error) => Err(format!("{clocksource}: {error}")),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let named = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(named)?;
    }
    fs::write(path, bytes).with_context(named)
}

/// Mounts a folder of the outside's where the command finds it.
fn mount_share(share: &SharedFolder) -> Result<()> {
    let folder = Path::new(SHARES).join(&share.tag);
    let named = || format!("cannot mount {}", folder.display());
    fs::create_dir_all(&folder).with_context(named)?;
    let flags = match share.read_only {
        true => MountFlags::RDONLY,
        false => MountFlags::empty(),
    };
    mount(
        share.tag.as_str(),
        &folder,
        "9p",
        flags,
        Some(c"trans=virtio,version=9p2000.L,msize=512000"),
    )
    .with_context(named)
}

/// Starts the command, and what waits for its end.
fn start(command: Command, port: &Port) -> Result<(Pid, Option<Sender<Vec<u8>>>)> {
    for share in &command.shares {
        mount_share(share)?;
    }
    write(Path::new(DESCRIPTION), &serde_json::to_vec(&command.host)?)?;
    for folder in command.outputs.iter().filter_map(|path| path.parent()) {
        fs::create_dir_all(folder)?;
    }
    fs::create_dir_all(&command.folder)?;
    let (shown, error) = match command.terminal {
        Some(size) => {
            let (shown, error) = terminal::open(size)?;
            (Some(shown), Stdio::from(error))
        }
        None => (None, Stdio::piped()),
    };
    let mut child = process::Command::new(std::env::current_exe()?)
        .args(&command.arguments)
        .envs(&command.environment)
        .current_dir(&command.folder)
        .stdin(match command.stdin {
            true => Stdio::piped(),
            false => Stdio::null(),
        })
        .stdout(Stdio::piped())
        .stderr(error)
        .spawn()?;
    let pid = Pid::from_child(&child);
    let stdin = child.stdin.take();
    let stdin = stdin.map(|stdin| input::receive(stdin, Arc::clone(port)));
    let mut copies = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        copies.push(copy(stdout, Report::Output, port));
    }
    if let Some(stderr) = child.stderr.take() {
        copies.push(copy(stderr, Report::Error, port));
    }
    if let Some(shown) = shown {
        copies.push(copy(shown, Report::Error, port));
    }
    let port = Arc::clone(port);
    thread::spawn(move || wait(child, copies, &command.outputs, &port));
    Ok((pid, stdin))
}

fn copy(mut from: impl Read + Send + 'static, head: Report, port: &Port) -> JoinHandle<()> {
    let port = Arc::clone(port);
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        // A terminal ends with an error once nobody has it open any more.
        while let Ok(length) = from.read(&mut buffer) {
            if length == 0 || report(&port, &head, &buffer[..length]).is_err() {
                break;
            }
        }
    })
}

/// Sends the command's files as they change, and its end after all else.
fn wait(mut child: Child, copies: Vec<JoinHandle<()>>, outputs: &[PathBuf], port: &Port) {
    let mut sent: Vec<Option<(u64, SystemTime)>> = outputs.iter().map(|path| state(path)).collect();
    let status = loop {
        let status = child.try_wait();
        for (path, sent) in outputs.iter().zip(&mut sent) {
            let now = state(path);
            if now != *sent
                && let Ok(bytes) = fs::read(path)
            {
                let path = path.clone();
                // Where the outside is gone, so is this host in a moment.
                let _ = report(port, &Report::File { path }, &bytes);
                *sent = now;
            }
        }
        match status {
            Ok(None) => thread::sleep(LOOK),
            Ok(Some(status)) => break Ok(status),
            Err(error) => break Err(error),
        }
    };
    for copy in copies {
        // A copy that panicked has told what it had.
        let _ = copy.join();
    }
    let ended = status
        .map_err(|error| error.to_string())
        .and_then(|status| match (status.code(), status.signal()) {
            (Some(code), _) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) => Err(format!("killed by signal {}", signal.unwrap_or(0))),
        });
    let _ = report(port, &Report::Ended(ended), &[]);
}

/// What tells a file that was written again from what it was.
fn state(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
