//! A service that gives trouble, for tests: it tries what it must not, or uses up what it can get.
//! Only tests put it into an image, as a `[[file]]`; what it finds goes to its output, a line each.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use noonmark_init::{clocks, sys};
use noonmark_sync::units::Nanos;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};
use rustix::process::{Pid, Signal, kill_process};
use rustix::system::{RebootCommand, finit_module, reboot};
use rustix::time::{ClockId, Timespec, clock_settime};

/// How much memory or file one step takes.
const CHUNK_BYTES: usize = 1 << 20;

/// From this error on a read counts as wrong.
const TOLERANCE: Nanos = Nanos::from_millis(5);

/// How many reads are made between two looks at whether something is to be told.
const READS: u32 = 1_000;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("crash") => return ExitCode::FAILURE,
        Some("break-in") => break_in(),
        Some("first-read") => tell(&format!("first-read {}", clocks::realtime().0)),
        Some("watch") => watch(),
        Some("ignore-term") => ignore_term(),
        Some("multiply") => multiply(),
        Some("eat-memory") => eat_memory(),
        Some("fill-tmp") => fill_tmp(),
        _ => return ExitCode::from(2),
    }
    loop {
        thread::sleep(Duration::from_secs(3_600));
    }
}

/// One write a line, so that two services' lines don't mix.
fn tell(what: &str) {
    // Without an output there is nobody to tell.
    let _ = std::io::stdout().write_all(format!("trouble: {what}\n").as_bytes());
}

/// Tries everything that could disturb the clock or end the machine, and tells what came of it.
fn break_in() {
    let time = Timespec {
        tv_sec: 1_000_000_000,
        tv_nsec: 0,
    };
    told("clock_settime", clock_settime(ClockId::Realtime, time));
    let slow = sys::Adjust {
        frequency: Some((-32_768_000, 10_000)),
        ..sys::Adjust::default()
    };
    told("adjtimex", sys::adjtimex(slow).map(|_| ()));
    let itself = File::open("/proc/self/exe");
    told(
        "finit_module",
        itself
            .map_err(errno)
            .and_then(|file| finit_module(&file, c"", 0)),
    );
    told("reboot", reboot(RebootCommand::CadOn));
    let device = rustix::fs::makedev(1, 3);
    let mode = Mode::RUSR | Mode::WUSR;
    let made = mknodat(CWD, "/tmp/null", FileType::CharacterDevice, mode, device);
    told("mknod", made);
    told("remount", mount_remount("/", MountFlags::empty(), ""));
    told("root", fs::write("/broken-in", "x").map_err(errno));
    told("sysrq", open_to_write("/proc/sysrq-trigger"));
    told("sysctl", open_to_write("/proc/sys/kernel/core_pattern"));
    told("cgroup", open_to_write("/sys/fs/cgroup/cgroup.procs"));
    // Permitted, because the sender is of the same user; PID 1 must not obey.
    let _ = kill_process(Pid::INIT, Signal::TERM);
    let _ = kill_process(Pid::INIT, Signal::KILL);
    tell("break-in over");
}

fn open_to_write(path: &str) -> Result<(), Errno> {
    let opened = OpenOptions::new().write(true).open(path);
    opened.map(drop).map_err(errno)
}

fn told(what: &str, outcome: Result<(), Errno>) {
    match outcome {
        Ok(()) => tell(&format!("{what} done")),
        Err(Errno::PERM) => tell(&format!("{what} EPERM")),
        Err(Errno::ROFS) => tell(&format!("{what} EROFS")),
        Err(other) => tell(&format!("{what} errno {}", other.raw_os_error())),
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Reads the clock over and over, and tells how many reads of each disturbance were wrong: away
/// from where MONOTONIC_RAW says that it should be.
fn watch() -> ! {
    let offset = || clocks::realtime().0 - clocks::raw().0;
    let line = offset();
    let (mut wrong, mut told) = (0u64, 0u64);
    tell("watching");
    loop {
        for _ in 0..READS {
            wrong += u64::from((offset() - line).abs() > TOLERANCE.0);
        }
        if wrong > told && (offset() - line).abs() <= TOLERANCE.0 {
            tell(&format!("wrong-reads {}", wrong - told));
            told = wrong;
        }
    }
}

fn ignore_term() {
    match sys::signalfd(&[libc::SIGTERM]) {
        Ok(held) => {
            tell("ignoring SIGTERM");
            // Kept open for ever: the signal stays blocked and unread.
            std::mem::forget(held);
        }
        Err(error) => tell(&format!("SIGTERM can't be blocked: {error}")),
    }
}

/// Starts copies of itself, each of which does the same, until there can be no more; and goes on.
fn multiply() -> ! {
    let mut refused = false;
    loop {
        let child = Command::new("/proc/self/exe")
            .arg("multiply")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if child.is_err() && !refused {
            refused = true;
            tell("multiply refused");
        }
    }
}

fn eat_memory() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(vec![1u8; CHUNK_BYTES]);
        std::hint::black_box(&held);
    }
}

fn fill_tmp() {
    let chunk = vec![1u8; CHUNK_BYTES];
    let outcome = File::create("/tmp/fill").and_then(|mut file| {
        loop {
            file.write_all(&chunk)?;
        }
    });
    let outcome: Result<(), std::io::Error> = outcome;
    if let Err(error) = outcome {
        tell(&format!("fill-tmp ended: {error}"));
    }
}
