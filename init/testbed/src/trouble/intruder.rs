//! A service with the default rights that tries each way to PID 1, the clock and the kernel that
//! break-ins are known to take, as user 0 or as another. Each has one refusal that is right; each is told.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use noonmark_linux::sys::attempt::Attempt;
use noonmark_linux::sys::{self, Adjust};
use rustix::fs::{CWD, FileType, Mode, inotify, mkdirat, mknodat, symlinkat, unlink};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};
use rustix::pipe::pipe;
use rustix::process::{Pid, Signal, getuid, kill_process};

use super::outcome::{errno, open_to_write, tell};

/// System calls that the filter refuses.
const CALLS: [Attempt; 31] = [
    Attempt::UserNamespace,
    Attempt::MountNamespace,
    Attempt::TimeNamespace,
    Attempt::Trace,
    Attempt::WriteMemory,
    Attempt::Limits,
    Attempt::Affinity,
    Attempt::Scheduler,
    Attempt::Priority,
    Attempt::UsersPriority,
    Attempt::IoPriority,
    Attempt::TakeDescriptor,
    Attempt::Compare,
    Attempt::Bpf,
    Attempt::Perf,
    Attempt::Userfault,
    Attempt::IoUring,
    Attempt::Kexec,
    Attempt::Module,
    Attempt::Key,
    Attempt::Mount,
    Attempt::PivotRoot,
    Attempt::OpenByHandle,
    Attempt::Swap,
    Attempt::Accounting,
    Attempt::SetTime,
    Attempt::Ports,
    Attempt::Quota,
    Attempt::Hangup,
    Attempt::Log,
    Attempt::EnterNamespace,
];

/// Device files of the machine, which a `/dev` of one's own has not; and PID 1, which `/proc` doesn't
/// show to who may not look into it.
const HIDDEN: [&str; 11] = [
    "/dev/ptp0",
    "/dev/rtc0",
    "/dev/mem",
    "/dev/port",
    "/dev/kmsg",
    "/dev/console",
    "/dev/vport0p1",
    "/proc/1/mem",
    "/proc/1/oom_score_adj",
    "/proc/1/clear_refs",
    "/proc/1/fd/3",
];

/// What PID 1 would read or write were it there, in a read-only folder.
const MISSING: [&str; 3] = [
    "/run/noonmark/.status.json",
    "/run/noonmark/ntp.json",
    "/run/noonmark/resolv.conf",
];

/// What is read-only; another user than 0 is refused it for its mode before that counts.
const SEALED: [&str; 6] = [
    "/run/clockbound/shm0",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/yama/ptrace_scope",
    "/sys/fs/cgroup/cgroup.procs",
];

/// How long everything that costs the kernel something is done at once.
const FLOOD: Duration = Duration::from_secs(5);

/// Room that is filled in `/run`.
const CHUNK_BYTES: usize = 1 << 16;

/// Makes all attempts, then floods. Gives how many attempts did not end as they should.
pub fn intrude() -> u8 {
    let (mut refused, mut passed) = (0u32, 0u8);
    let mut told = |what: &str, expected: Errno, outcome: Result<(), Errno>| {
        if outcome == Err(expected) {
            refused += 1;
            tell(&format!("{what}: {expected}"));
        } else {
            passed = passed.saturating_add(1);
            tell(&format!("{what}: {outcome:?}, not {expected:?}"));
        }
    };
    let root = getuid().is_root();
    let sealed = if root { Errno::ROFS } else { Errno::ACCESS };
    for call in CALLS {
        told(&format!("{call:?}"), Errno::PERM, call.make());
    }
    for path in HIDDEN {
        let opened = OpenOptions::new().write(true).open(path);
        told(path, Errno::NOENT, opened.map(drop).map_err(errno));
    }
    for path in MISSING {
        told(path, Errno::ROFS, open_to_write(path));
    }
    for path in SEALED {
        told(path, sealed, open_to_write(path));
    }
    let unlinked = unlink("/run/clockbound/shm0");
    told("another ClockBound segment", Errno::ROFS, unlinked);
    // Only for who has CAP_SYS_RESOURCE, and read-only.
    let namespaces = "/proc/sys/user/max_user_namespaces";
    told(namespaces, Errno::ACCESS, open_to_write(namespaces));
    let fifo = mknodat(CWD, "/run/noonmark/f", FileType::Fifo, Mode::RUSR, 0);
    told("a FIFO for PID 1", Errno::ROFS, fifo);
    let link = symlinkat("/tmp/x", CWD, "/run/noonmark/link");
    told("a link for PID 1", Errno::ROFS, link);
    let folder = mkdirat(CWD, "/dev/folder", Mode::RWXU);
    told("filling /dev", Errno::ROFS, folder);
    let node = rustix::fs::makedev(10, 200);
    let made = mknodat(
        CWD,
        "/tmp/node",
        FileType::CharacterDevice,
        Mode::RUSR,
        node,
    );
    told("a device file", Errno::PERM, made);
    let slow = Adjust {
        frequency: Some((-32_768_000, 10_000)),
        ..Adjust::default()
    };
    told("adjtimex", Errno::PERM, sys::adjtimex(slow).map(|_| ()));
    for signal in [Signal::TERM, Signal::KILL, Signal::CHILD] {
        let sent = kill_process(Pid::INIT, signal);
        told(&format!("{signal:?} to PID 1"), Errno::PERM, sent);
    }
    told("a uevent that is not the kernel's", Errno::PERM, uevent());
    flood();
    tell(&format!("intruder over, {refused} attempts refused"));
    passed
}

/// One for everybody who listens.
fn uevent() -> Result<(), Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(KOBJECT_UEVENT),
    )?;
    let message = b"change@/devices/x\0ACTION=change\0SUBSYSTEM=ptp\0";
    let everybody = SocketAddrNetlink::new(0, 1);
    sendto(&socket, message, SendFlags::DONTWAIT, &everybody).map(drop)
}

/// Does the same over and over.
pub fn besiege() -> ! {
    loop {
        intrude();
    }
}

/// Signals, descriptors, watches of files, memory of `/run` and processors, all used up at once.
fn flood() {
    let until = Instant::now() + FLOOD;
    thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                let _ = kill_process(Pid::INIT, Signal::TERM);
            }
        });
        scope.spawn(|| {
            while Instant::now() < until {
                // Until no more are to be had; dropped, and again.
                let held: Vec<(OwnedFd, OwnedFd)> = std::iter::from_fn(|| pipe().ok()).collect();
                drop(held);
            }
        });
        scope.spawn(|| {
            while Instant::now() < until {
                let flags = inotify::CreateFlags::CLOEXEC;
                let held: Vec<OwnedFd> = std::iter::from_fn(|| inotify::init(flags).ok()).collect();
                drop(held);
            }
        });
        scope.spawn(|| {
            let chunk = vec![1u8; CHUNK_BYTES];
            let mut file = std::fs::File::create("/run/fill");
            while Instant::now() < until {
                if let Ok(file) = &mut file {
                    // ENOSPC at some time, and ever since.
                    let _ = file.write_all(&chunk);
                }
            }
            let _ = std::fs::remove_file("/run/fill");
        });
    });
}
