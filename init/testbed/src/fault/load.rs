//! Load on the guest: programs that want all of its processors, most of its memory, and ever more
//! processes. They are this same program, started again with another argument.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::Duration;

use noonmark_linux::{affinity, sys};
use rustix::process::Signal;

/// What the program's first argument is where it is to be load.
pub const ARGUMENT: &str = "load";

/// Above every load, below PID 1.
const PRIORITY: i32 = 10;

/// The hogs leave this much of the memory that is available, so that nobody is killed for it.
const MEMORY_LEFT_KIB: u64 = 48 * 1024;

/// Bytes of a page: the memory hog dirties each.
const PAGE: usize = 4096;

/// Programs that a fork loop has started and that have not ended yet, at most.
const FORKS_AT_ONCE: usize = 8;

/// The kinds of load, as the second argument names them.
const KINDS: [&str; 3] = ["cpu", "memory", "fork"];

/// Load under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Load {
    hogs: Vec<Child>,
}

impl Load {
    /// Starts it: a CPU hog on each processor, a memory hog, a fork loop.
    ///
    /// # Errors
    /// Where a program can't be started, or this one not be put above them.
    pub fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let mut load = Self { hogs: Vec::new() };
        let cpus = std::iter::repeat_n("cpu", processors);
        for kind in cpus.chain(["memory", "fork"]) {
            let mut command = Command::new(env::current_exe()?);
            command.args([ARGUMENT, kind]);
            // In a group of its own, so that its children end with it.
            load.hogs.push(command.process_group(0).spawn()?);
        }
        sys::schedule_fifo(PRIORITY)?;
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Ordinary again whatever comes of the rest; a failure leaves it only more punctual.
        let _ = sys::schedule_ordinary();
        for hog in &mut self.hogs {
            let pid = i32::try_from(hog.id()).ok();
            if let Some(group) = pid.and_then(rustix::process::Pid::from_raw) {
                // ESRCH says that it is gone already.
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            let _ = hog.wait();
        }
    }
}

/// Is load of this kind until it is killed.
#[must_use]
pub fn be(kind: Option<&str>) -> ExitCode {
    // The fault program keeps to one processor, and this is its child. A failure makes less load.
    let _ = affinity::allow_all();
    match kind {
        Some("cpu") => loop {
            std::hint::spin_loop();
        },
        Some("memory") => hog_memory(),
        Some("fork") => fork_for_ever(),
        // What the fork loop starts has nothing to do.
        None => ExitCode::SUCCESS,
        Some(_) => {
            eprintln!("the kind of load must be one of {}", KINDS.join(", "));
            ExitCode::FAILURE
        }
    }
}

/// Dirties one page after the other of most of the memory that is there.
fn hog_memory() -> ExitCode {
    let available = fs::read_to_string("/proc/meminfo")
        .ok()
        .as_deref()
        .and_then(available_kib)
        .unwrap_or(0);
    let bytes = available.saturating_sub(MEMORY_LEFT_KIB) as usize * 1024;
    let mut memory = vec![0_u8; bytes.max(PAGE)];
    loop {
        for byte in memory.iter_mut().step_by(PAGE) {
            *byte = std::hint::black_box(byte.wrapping_add(1));
        }
    }
}

fn available_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn fork_for_ever() -> ExitCode {
    let mut running: Vec<Child> = Vec::with_capacity(FORKS_AT_ONCE);
    loop {
        running.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let started = (running.len() < FORKS_AT_ONCE)
            .then(|| Command::new("/proc/self/exe").arg(ARGUMENT).spawn());
        match started {
            Some(Ok(child)) => running.push(child),
            // Out of memory or processes: that is as much load as there can be.
            Some(Err(_)) | None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_as_the_kernel_writes_it() {
        let meminfo = "MemTotal:  245000 kB\nMemFree:  1000 kB\nMemAvailable:     201234 kB\n";
        assert_eq!(available_kib(meminfo), Some(201_234));
        assert_eq!(available_kib("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn an_unknown_load_is_refused_and_none_ends_at_once() {
        assert_eq!(
            format!("{:?}", be(None)),
            format!("{:?}", ExitCode::SUCCESS)
        );
        assert_eq!(
            format!("{:?}", be(Some("disk"))),
            format!("{:?}", ExitCode::FAILURE)
        );
    }
}
