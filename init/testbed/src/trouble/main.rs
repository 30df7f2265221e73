//! A service that gives trouble, for tests: it tries what it must not, or uses up what it can get.
//! Only tests put it into an image, as a `[[file]]`; what it finds goes to its output, a line each.

mod intruder;
mod look_around;
mod notify;
mod outcome;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use noonmark_contract::units::Nanos;
use noonmark_linux::clocks::{self, Sandwich};
use noonmark_linux::sys::attempt::Attempt;
use noonmark_linux::{affinity, sys};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};
use rustix::process::{Pid, Signal, kill_process};
use rustix::system::{RebootCommand, finit_module, reboot};
use rustix::time::{
    ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic, clock_settime,
};

use outcome::{errno, open_to_write, tell};

/// How much memory or file one step takes.
const CHUNK_BYTES: usize = 1 << 20;

/// From this error on a read counts as wrong.
const TOLERANCE: Nanos = Nanos::from_millis(5);

/// What user 0 could end the machine, lift its limits or mislead PID 1 and its helpers by, were it not
/// read-only.
const SEALED: [&str; 9] = [
    "/broken-in",
    "/run/clockbound/shm0",
    "/run/clockbound/broken-in",
    "/run/noonmark/.status.json",
    "/run/noonmark/ntp.json",
    "/run/noonmark/resolv.conf",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/sys/fs/cgroup/cgroup.procs",
];

/// Lines of some 70 bytes: ten times what PID 1 keeps of them.
const TALK_LINES: u32 = 10_000;

/// Reads are counted in slots of this length, and so many slots are remembered: four seconds.
const SLOT: Nanos = Nanos::from_millis(1);
const SLOTS: i64 = 4096;

/// A correction by as much is one of a machine that was away.
const JUMP: Nanos = Nanos::from_secs(1);

/// By what the clock is set, and how often.
const SCRAMBLES: [Nanos; 4] = [
    Nanos::from_secs(3_600),
    Nanos::from_millis(-500),
    Nanos::from_secs(-3_600),
    Nanos::from_millis(500),
];
const SCRAMBLE_EVERY: Duration = Duration::from_millis(700);

/// How many reads are made between two looks at whether something is to be reported.
const READS: u32 = 1_000;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("crash") => return ExitCode::FAILURE,
        Some("break-in") => return ExitCode::from(break_in()),
        Some("intrude") => return ExitCode::from(intruder::intrude()),
        Some("besiege") => intruder::besiege(),
        Some("first-read") => tell(&format!("first-read {}", clocks::realtime().0)),
        Some("watch") => watch(),
        Some("count-reads") => count_reads(),
        Some("wait") => tell("waiting"),
        Some("ignore-term") => ignore_term(),
        // The way in which a guest's program asks PID 1 to end the machine.
        Some("end-machine") => drop(kill_process(Pid::INIT, Signal::TERM)),
        Some("crash-init") => return crash_init(),
        Some("stop-init") => return stop_init(),
        Some("flood-signals") => flood_signals(),
        Some("multiply") => multiply(),
        Some("eat-memory") => eat_memory(),
        Some("fill-tmp") => return fill_tmp(),
        Some("look-around") => return ExitCode::from(look_around::look_around()),
        Some("open") => return ExitCode::from(look_around::open()),
        Some("talk") => return talk(),
        Some("scramble") => return scramble(),
        Some("clock-error") => return clock_error(),
        Some("notify") => return notify(notify::hang_once_alive()),
        Some("notify-by-child") => return notify(notify::by_a_child()),
        Some("notify-ready") => return notify(notify::say_ready()),
        Some("notify-forge") => return notify(notify::forge("victim")),
        Some("notify-stopping") => return notify(notify::stop_by_itself()),
        _ => return ExitCode::from(2),
    }
    loop {
        thread::sleep(Duration::from_secs(3_600));
    }
}

fn notify(outcome: std::io::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        tell(&format!("notify: {error}"));
        ExitCode::from(4)
    })
}

/// Tries everything that could disturb the clock or end the machine, and tells what came of it.
/// Gives how many of the attempts were refused with the error that the hardening has for them.
fn break_in() -> u8 {
    let time = Timespec {
        tv_sec: 1_000_000_000,
        tv_nsec: 0,
    };
    let mut refused = 0;
    let mut told = |what: &str, expected: Errno, outcome: Result<(), Errno>| {
        refused += u8::from(outcome == Err(expected));
        tell(&match outcome {
            Ok(()) => format!("{what} done"),
            Err(errno) => format!("{what}: {errno}"),
        });
    };
    let time = clock_settime(ClockId::Realtime, time);
    told("clock_settime", Errno::PERM, time);
    let slow = sys::Adjust {
        frequency: Some((-32_768_000, 10_000)),
        ..sys::Adjust::default()
    };
    told("adjtimex", Errno::PERM, sys::adjtimex(slow).map(|_| ()));
    let itself = File::open("/proc/self/exe");
    told(
        "finit_module",
        Errno::PERM,
        itself
            .map_err(errno)
            .and_then(|file| finit_module(&file, c"", 0)),
    );
    told("reboot", Errno::PERM, reboot(RebootCommand::CadOn));
    let device = rustix::fs::makedev(1, 3);
    let mode = Mode::RUSR | Mode::WUSR;
    let made = mknodat(CWD, "/tmp/null", FileType::CharacterDevice, mode, device);
    told("mknod", Errno::PERM, made);
    let remounted = mount_remount("/", MountFlags::empty(), "");
    told("remount", Errno::PERM, remounted);
    // The kernel's limit on their number is 0.
    let namespace = Attempt::UserNamespace.make();
    told("user namespace", Errno::NOSPC, namespace);
    for path in SEALED {
        told(path, Errno::ROFS, open_to_write(path));
    }
    // Permitted, because the sender is of the same user; PID 1 must not obey.
    let _ = kill_process(Pid::INIT, Signal::TERM);
    let _ = kill_process(Pid::INIT, Signal::KILL);
    tell(&format!("break-in over, {refused} attempts refused"));
    refused
}

/// Reads the clock over and over, and tells how many reads of each disturbance were wrong: away
/// from where MONOTONIC_RAW says that it should be.
fn watch() -> ! {
    let mut line = Sandwich::tightest(8).difference();
    let (mut wrong, mut told) = (0u64, 0u64);
    tell("watching");
    loop {
        let mut right = false;
        for _ in 0..READS {
            let read = Sandwich::read();
            // One that was interrupted between its clocks says nothing.
            if read.width() > TOLERANCE {
                continue;
            }
            right = (read.difference() - line).0.abs() <= TOLERANCE.0;
            wrong += u64::from(!right);
            // It moves with the clock's rate.
            line = if right { read.difference() } else { line };
        }
        if wrong > told && right {
            tell(&format!("wrong-reads {}", wrong - told));
            told = wrong;
        }
    }
}

/// Reads the clock over and over, and tells of each correction by a second or more: the first time
/// read after it, how long ago the last wrong one was, and how many there were in each slot before,
/// the latest first.
fn count_reads() -> ! {
    let mut slots = vec![(0i64, 0u32); SLOTS as usize];
    let place = |slot: i64| slot.rem_euclid(SLOTS) as usize;
    let mut last = Sandwich::tightest(8);
    tell("counting");
    loop {
        let read = Sandwich::read();
        // One that was interrupted between its clocks says nothing.
        if read.width() > TOLERANCE {
            continue;
        }
        let slot = read.raw().0 / SLOT.0;
        if (read.difference() - last.difference()).0.abs() >= JUMP.0 {
            let counts = (0..SLOTS).map(|back| match slots[place(slot - back)] {
                (of, count) if of == slot - back => count.to_string(),
                _ => "0".to_owned(),
            });
            let counts = counts.collect::<Vec<_>>().join(" ");
            let ago = read.raw() - last.raw();
            tell(&format!("jumped {} {} {counts}", read.realtime.0, ago.0));
        }
        last = read;
        let (of, count) = &mut slots[place(slot)];
        *count = if *of == slot { *count + 1 } else { 1 };
        *of = slot;
    }
}

/// Sets the clock ahead and back for ever, as one who may. Fails where it may not.
fn scramble() -> ExitCode {
    for shift in SCRAMBLES.iter().cycle() {
        thread::sleep(SCRAMBLE_EVERY);
        let time = clocks::timespec(Nanos(clocks::realtime().0) + *shift);
        if let Err(errno) = clock_settime(ClockId::Realtime, time) {
            tell(&format!("clock_settime: {errno}"));
            break;
        }
    }
    ExitCode::FAILURE
}

/// Tells each second what the kernel says of its clock, and how far CLOCK_TAI is ahead of it.
fn clock_error() -> ExitCode {
    while let Ok((maxerror_us, unsync, tai_offset_s)) = sys::clock_error() {
        let Ok(tai) = clock_gettime_dynamic(DynamicClockId::Tai) else {
            break;
        };
        let utc = clock_gettime(ClockId::Realtime);
        // Half a second for what passed in between.
        let ahead = tai.tv_sec - utc.tv_sec - i64::from(tai.tv_nsec < utc.tv_nsec - 500_000_000);
        let unsync = u8::from(unsync);
        tell(&format!(
            "clock-error {maxerror_us} {unsync} {tai_offset_s} {ahead}"
        ));
        thread::sleep(Duration::from_secs(1));
    }
    ExitCode::FAILURE
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

/// Puts an instruction that there isn't where PID 1 waits, which takes CAP_SYS_PTRACE.
fn crash_init() -> ExitCode {
    /// `ud2`
    const INVALID: [u8; 2] = [0x0f, 0x0b];
    for _ in 0..1_000 {
        // The system call that it is in, its arguments, stack and instruction; `running` elsewhere.
        let text = fs::read_to_string("/proc/1/syscall").unwrap_or_default();
        let place = text.split_whitespace().nth(8);
        let place =
            place.and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
        if let Some(place) = place {
            let memory = OpenOptions::new().write(true).open("/proc/1/mem");
            let written = memory.and_then(|memory| memory.write_all_at(&INVALID, place));
            tell(&format!("crash-init at {place:#x}: {written:?}"));
            return ExitCode::from(u8::from(written.is_err()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    ExitCode::FAILURE
}

/// After some seconds, leaves no time for PID 1 on its processor, which takes CAP_SYS_NICE; the machine's other parts go on.
fn stop_init() -> ExitCode {
    /// The highest; PID 1's is below it.
    const PRIORITY: i32 = 99;
    let after_s = std::env::args().nth(2).and_then(|text| text.parse().ok());
    thread::sleep(Duration::from_secs(after_s.unwrap_or(0)));
    let taken = affinity::keep_to_first().and_then(|()| {
        tell("PID 1 is stopped");
        sys::schedule_fifo(PRIORITY)
    });
    if let Err(errno) = taken {
        tell(&format!("stop-init: {errno}"));
        return ExitCode::FAILURE;
    }
    loop {
        std::hint::spin_loop();
    }
}

/// Asks PID 1 to end the machine as often as it can.
fn flood_signals() -> ! {
    tell("flooding");
    loop {
        // Permitted, because the sender is of the same user.
        let _ = kill_process(Pid::INIT, Signal::TERM);
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

/// Says more than any buffer holds; a writer that nobody reads would stand still for ever.
fn talk() -> ExitCode {
    for line in 0..TALK_LINES {
        tell(&format!("talk {line:>60}"));
    }
    tell("talk over");
    ExitCode::SUCCESS
}

/// Ends with the error's number, and leaves its file where it is.
fn fill_tmp() -> ExitCode {
    let chunk = vec![1u8; CHUNK_BYTES];
    let outcome = File::create("/tmp/fill").and_then(|mut file| {
        loop {
            file.write_all(&chunk)?;
        }
    });
    let outcome: Result<(), std::io::Error> = outcome;
    let number = outcome.err().and_then(|error| error.raw_os_error());
    ExitCode::from(number.map_or(0, |number| u8::try_from(number).unwrap_or(u8::MAX)))
}
