//! The host that an experiment ran on, and how long the guest had to wait for its processors:
//! every figure includes that.

use std::fs;
use std::path::Path;
use std::time::Instant;

use noonmark_contract::units::Nanos;
use noonmark_qemu::kvm_host;
use serde::{Deserialize, Serialize};

/// From this share of the time on a report warns of the host's load.
const BUSY_SHARE: f64 = 0.05;

/// What Linux says of the host; none where it does not say it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The processor's name.
    pub cpu: Option<String>,
    /// Processors that this program may run on.
    pub cpus: Option<usize>,
    /// What it is emulated by, where it is an emulated KVM host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated: Option<Emulated>,
    /// Time that QEMU's threads were ready to run and had no processor, over the experiment's
    /// duration (`run_delay` in `/proc/PID/task/*/schedstat`, Documentation/scheduler/
    /// sched-stats.rst). With several threads it can exceed 1.
    pub qemu_waited_share: Option<f64>,
}

/// What emulates a KVM host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulated {
    /// The host's KVM, as its kernel calls the module: `kvm_amd`.
    pub kvm: String,
    /// The QEMU's version.
    pub qemu: String,
    /// The release of the kernel that this QEMU runs on.
    pub kernel: Option<String>,
    /// The processor that it runs on.
    pub cpu: Option<String>,
}

impl Emulated {
    fn here() -> Option<Self> {
        let host = kvm_host::inside()?;
        let loaded = |module: &&str| Path::new("/sys/module").join(module).exists();
        Some(Self {
            kvm: ["kvm_amd", "kvm_intel"]
                .into_iter()
                .find(loaded)?
                .to_owned(),
            qemu: host.qemu.clone(),
            kernel: host.kernel.clone(),
            cpu: host.cpu.clone(),
        })
    }
}

impl Host {
    /// This host.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        Self {
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            cpu: read("/proc/cpuinfo").as_deref().and_then(model_name),
            cpus: std::thread::available_parallelism()
                .ok()
                .map(std::num::NonZero::get),
            emulated: Emulated::here(),
            qemu_waited_share: None,
        }
    }

    /// Whether the guest had to wait for others so long that its figures show it.
    #[must_use]
    pub fn was_busy(&self) -> bool {
        self.qemu_waited_share
            .is_some_and(|share| share >= BUSY_SHARE)
    }
}

/// Measures from its making on how long a process waits for processors.
#[derive(Debug)]
pub(crate) struct RunDelay {
    pid: u32,
    began: Instant,
    delay_before_ns: Option<u64>,
}

impl RunDelay {
    /// Begins to measure.
    pub(crate) fn begin(pid: u32) -> Self {
        Self {
            pid,
            began: Instant::now(),
            delay_before_ns: run_delay_ns(pid),
        }
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The time waited since then by the process that is now the machine's, which may be another
    /// than at first; none where the kernel does not count it or the process is gone.
    pub(crate) fn waited(&self, pid: u32) -> Option<Nanos> {
        let waited_ns = if pid == self.pid {
            run_delay_ns(pid)?.checked_sub(self.delay_before_ns?)?
        } else {
            run_delay_ns(pid)?
        };
        i64::try_from(waited_ns).ok().map(Nanos)
    }

    /// The time waited since then over the time passed; none where the kernel does not count it
    /// or the process is gone.
    pub(crate) fn share(&self) -> Option<f64> {
        let waited_ns = run_delay_ns(self.pid)?.checked_sub(self.delay_before_ns?)?;
        let passed_ns = self.began.elapsed().as_nanos();
        (passed_ns > 0).then(|| waited_ns as f64 / passed_ns as f64)
    }
}

/// The sum over all threads of a process.
fn run_delay_ns(pid: u32) -> Option<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
            continue;
        };
        total += parse_run_delay(&text)?;
    }
    Some(total)
}

/// The second of `time on the processor, time waiting, timeslices`.
fn parse_run_delay(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_s_name_and_the_waiting_are_read_as_linux_writes_them() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A Processor @ 2 GHz\nflags\t: fpu\n";
        assert_eq!(model_name(cpuinfo).as_deref(), Some("A Processor @ 2 GHz"));
        assert_eq!(model_name(""), None);
        assert_eq!(
            parse_run_delay("179566318 293189011 452\n"),
            Some(293_189_011)
        );
        assert_eq!(parse_run_delay(""), None);
    }

    #[test]
    fn a_process_that_is_gone_has_no_share() {
        // No process can have this number: it is beyond the kernel's PID_MAX_LIMIT of 2^22.
        assert_eq!(RunDelay::begin(4_194_305).share(), None);
        assert_eq!(RunDelay::begin(4_194_305).waited(4_194_305), None);
    }

    #[test]
    fn what_a_process_waited_before_does_not_count_and_that_of_a_new_one_does() {
        let own = std::process::id();
        let waiting = RunDelay::begin(own);
        if let (Some(since), Some(whole)) = (waiting.waited(own), run_delay_ns(own)) {
            assert!(since.0.unsigned_abs() <= whole, "{since:?} of {whole}");
        }
        let other = RunDelay::begin(4_194_305);
        assert!(other.waited(own) <= run_delay_ns(own).map(|ns| Nanos(ns as i64)));
    }

    #[test]
    fn only_noticeable_waiting_makes_a_host_busy() {
        let host = |share| Host {
            qemu_waited_share: share,
            ..Host::default()
        };
        assert!(!host(None).was_busy() && !host(Some(0.01)).was_busy());
        assert!(host(Some(0.4)).was_busy());
    }
}
