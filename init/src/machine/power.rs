//! The machine's end, and PID 1's own failure.

use std::panic;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use noonmark_contract::config::FailureAction;
use noonmark_contract::record::Shutdown;
use noonmark_linux::log;
use noonmark_linux::sys::fatal;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::system::{RebootCommand, reboot};

/// How long file systems may take to write out what they hold, where all of them are in memory.
const SYNC_DEADLINE_MS: u32 = 500;
const SYNC_DEADLINE: Duration = Duration::from_millis(SYNC_DEADLINE_MS as u64);

/// The same, where data disks are to be written to.
const DISKS_DEADLINE: Duration = Duration::from_secs(10);

/// The sync thread's stack: it makes one system call.
const SYNC_STACK_BYTES: usize = 64 * 1024;

static ON_FAILURE: OnceLock<FailureAction> = OnceLock::new();

/// Where data disks are, or may be, mounted.
static DATA_DISKS: OnceLock<Vec<String>> = OnceLock::new();

/// The folders on which data disks are mounted, to be unmounted in reverse order; the first call
/// counts.
pub fn set_data_disks(paths: Vec<String>) {
    // The configuration is carried out once.
    let _ = DATA_DISKS.set(paths);
}

/// What a failure of PID 1 leads to; the first call counts, and before it the machine is turned off.
pub fn set_failure_action(action: FailureAction) {
    // A second call has no better knowledge than the first.
    let _ = ON_FAILURE.set(action);
}

/// Makes a panic, a failed allocation and a fatal signal end as [`fail`] does, instead of in a kernel
/// panic.
///
/// # Errors
/// As [`fatal::end_by`]; panics are dealt with all the same.
pub fn guard() -> Result<(), Errno> {
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let why = info.payload_as_str().unwrap_or("no message");
        fail(format_args!("PID 1 panicked{place}: {why}"));
    }));
    fatal::end_by(end_at_once)
}

/// [`fail`] where nothing may be allocated, and no lock taken: data disks are written out, but stay
/// mounted.
fn end_at_once(signal: i32) -> ! {
    log!(Critical, "PID 1 failed: signal {signal}");
    fatal::sync_within(SYNC_DEADLINE_MS);
    if let Err(errno) = reboot(command(on_failure())) {
        log!(
            Critical,
            "reboot(2) failed: {errno}; the machine stays as it is"
        );
    }
    loop {
        thread::sleep(Duration::from_secs(3_600));
    }
}

fn on_failure() -> Shutdown {
    match ON_FAILURE.get().copied().unwrap_or_default() {
        FailureAction::PowerOff => Shutdown::Poweroff,
        FailureAction::Reboot => Shutdown::Reboot,
        FailureAction::Halt => Shutdown::Halt,
    }
}

fn command(how: Shutdown) -> RebootCommand {
    match how {
        Shutdown::Poweroff => RebootCommand::PowerOff,
        Shutdown::Reboot => RebootCommand::Restart,
        Shutdown::Halt => RebootCommand::Halt,
    }
}

/// Logs why PID 1 can't go on, and does what the image chose for that.
pub fn fail(why: std::fmt::Arguments<'_>) -> ! {
    log!(Critical, "{why}");
    end(on_failure())
}

/// Unmounts the data disks and writes out the file systems, then ends the machine.
pub fn end(how: Shutdown) -> ! {
    write_out(DATA_DISKS.get().map_or(&[], Vec::as_slice));
    if let Err(errno) = reboot(command(how)) {
        log!(
            Critical,
            "reboot(2) for {how:?} failed: {errno}; the machine stays as it is"
        );
    }
    // The kernel panics when PID 1 returns, so it stays, whatever happened.
    loop {
        thread::sleep(Duration::from_secs(3_600));
    }
}

/// Unmounting and `sync(2)` on a thread of its own, because a broken device can hold it for ever.
fn write_out(data_disks: &'static [String]) {
    let deadline = if data_disks.is_empty() {
        SYNC_DEADLINE
    } else {
        DISKS_DEADLINE
    };
    let (done, wait) = mpsc::channel();
    let started = thread::Builder::new()
        .stack_size(SYNC_STACK_BYTES)
        .spawn(move || {
            for path in data_disks.iter().rev() {
                unmount_data_disk(path);
            }
            rustix::fs::sync();
            // Where nobody waits any more, the machine is already going down.
            let _ = done.send(());
        });
    if started.is_err() || wait.recv_timeout(deadline).is_err() {
        log!(
            Error,
            "file systems were not written out within {deadline:?}"
        );
    }
}

/// Makes a data disk read-only, which leaves it clean, and unmounts it. Unmounting alone would not do:
/// each service has a mount of it too, which goes some time after the service has.
fn unmount_data_disk(path: &str) {
    let outcome = match mount_remount(path, MountFlags::RDONLY, "") {
        Ok(()) => match unmount(path, UnmountFlags::empty()) {
            // Somebody holds it, and can't write to it.
            Err(Errno::BUSY) => Ok(()),
            outcome => outcome,
        },
        // Nothing is mounted there.
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(_) => unmount(path, UnmountFlags::empty()),
    };
    if let Err(errno) = outcome {
        log!(Error, "taking down {path}: {errno}");
    }
}
