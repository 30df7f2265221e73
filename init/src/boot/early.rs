//! PID 1's first steps: file systems, log, loopback, scheduling, memory.

use noonmark_contract::config::BootConfig;
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::{affinity, clocks, kmsg, log, sys};
use rustix::mm::MlockAllFlags;
use rustix::system::RebootCommand;

use crate::machine::power;

use super::mounts;

/// Above ordinary programs and the kernel's own SCHED_FIFO threads (50), below its migration and
/// watchdog threads (99): a correction waits for neither workload nor threaded interrupts.
const PRIORITY: i32 = 80;

/// The instant of PID 1's first instruction.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Since the kernel's timekeeping started.
    pub monotonic: Nanos,
    /// To count from.
    pub raw: Raw,
    /// What the process had used by then: the kernel boots as process 1, and that is not ours.
    pub cpu: Nanos,
}

impl Started {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            monotonic: clocks::monotonic(),
            raw: clocks::raw(),
            cpu: clocks::cpu_time(),
        }
    }
}

/// Makes the machine usable: file systems, log, loopback, scheduling, memory. What fails is logged and
/// returned; none of it keeps the clock from being corrected.
#[must_use]
pub fn prepare() -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    problems.extend(mounts::dev().err().map(|error| error.to_string()));
    problems.extend(
        kmsg::open()
            .err()
            .map(|error| format!("/dev/kmsg: {error}")),
    );
    if let Err(errno) = power::guard() {
        problems.push(format!(
            "handling fatal signals: {errno}; one ends in a kernel panic, not as `on_failure` says"
        ));
    }
    problems.extend(mounts::rest().iter().map(ToString::to_string));
    if let Err(errno) = sys::loopback_up() {
        problems.push(format!(
            "bringing up lo: {errno}; programs can't reach each other by 127.0.0.1"
        ));
    }
    if let Err(errno) = sys::schedule_fifo(PRIORITY) {
        problems.push(format!("SCHED_FIFO {PRIORITY}: {errno}"));
    }
    if let Err(errno) = affinity::keep_to_first() {
        problems.push(format!("keeping to one processor: {errno}"));
    }
    if let Err(errno) = rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE) {
        problems.push(format!("locking memory: {errno}"));
    }
    if let Err(errno) = rustix::system::reboot(RebootCommand::CadOff) {
        problems.push(format!("taking Ctrl-Alt-Del: {errno}"));
    }
    problems
}

/// Gives the machine its name.
pub fn set_hostname(config: &BootConfig) {
    if let Err(errno) = rustix::system::sethostname(config.hostname.as_bytes()) {
        log!(Warning, "host name `{}`: {errno}", config.hostname);
    }
}
