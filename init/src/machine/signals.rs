//! Signals as something to read, not to be interrupted by.

use std::fs;
use std::os::fd::OwnedFd;

use noonmark_contract::config::Capability;
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::sys;
use rustix::io::Errno;

use crate::token_bucket::TokenBucket;

/// A signal that means something to PID 1. All others are left to the kernel, which drops what PID 1
/// has no handler for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGCHLD: a child ended.
    Child,
    /// SIGTERM, SIGPWR, or SIGINT: turn the machine off.
    PowerOff {
        /// The process that sent it; none where the kernel did, as SIGINT for Ctrl-Alt-Del.
        by: Option<u32>,
    },
}

/// `struct signalfd_siginfo` is this long (include/uapi/linux/signalfd.h); its first field is the
/// signal's number.
const SIGINFO_BYTES: usize = 128;

/// Who sent a signal, in `ssi_code` (include/uapi/asm-generic/siginfo.h).
const SI_KERNEL: i32 = 0x80;
const SI_USER: i32 = 0;
const SI_TKILL: i32 = -6;

/// How many signals one wake takes in.
const BATCH: u32 = 16;

/// How long signals wait after some were taken in, so that who sends them without end keeps PID 1 awake
/// for a small part of the time.
const REST: Nanos = Nanos::from_millis(5);

/// How many refused requests to end the machine are told in a row, and in which time as many may be
/// told again: a line takes the serial console milliseconds.
const REFUSALS_TOLD: usize = 4;
const REFUSALS_REFILL: Nanos = Nanos::from_secs(60);

/// Where they are read: in batches, with a rest between them.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
    budget: u32,
    /// When they are to be waited for again.
    rests_until: Option<Raw>,
    refusals: Refusals,
}

/// Requests to end the machine of those who may not: told at a bounded rate, counted beyond it.
#[derive(Debug)]
struct Refusals {
    bucket: TokenBucket,
    untold: u64,
}

impl Signals {
    /// Blocks them and starts to collect them.
    ///
    /// # Errors
    /// As `sigprocmask` and `signalfd`.
    pub fn open(now: Raw) -> Result<Self, Errno> {
        let descriptor =
            sys::signalfd(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGPWR])?;
        Ok(Self {
            descriptor,
            budget: 0,
            rests_until: None,
            refusals: Refusals::new(now),
        })
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Begins to take in what has come. Until [`Signals::take_due`] says so, there is no use in waiting
    /// for more.
    pub fn begin(&mut self, now: Raw) {
        self.budget = BATCH;
        self.rests_until = Some(now + REST);
    }

    /// The next signal; none where no more wait, or enough were taken for now. Several of a kind may
    /// come as one.
    pub fn take_next(&mut self) -> Option<Signal> {
        let mut info = [0u8; SIGINFO_BYTES];
        while let Some(left) = self.budget.checked_sub(1)
            && rustix::io::read(&self.descriptor, &mut info) == Ok(SIGINFO_BYTES)
        {
            self.budget = left;
            if let Some(signal) = parse(&info) {
                return Some(signal);
            }
        }
        None
    }

    /// When [`Signals::take_due`] has something to say.
    #[must_use]
    pub fn deadline(&self) -> Option<Raw> {
        self.rests_until
    }

    /// Whether they are to be waited for again, as of now.
    pub fn take_due(&mut self, now: Raw) -> bool {
        self.rests_until.take_if(|until| *until <= now).is_some()
    }

    /// What is to be told of a request of process `pid`, which may not end the machine, if anything.
    pub fn refuse(&mut self, pid: u32, now: Raw) -> Option<String> {
        self.refusals.tell(pid, now)
    }
}

impl Refusals {
    fn new(now: Raw) -> Self {
        Self {
            bucket: TokenBucket::new(REFUSALS_TOLD, REFUSALS_REFILL, now),
            untold: 0,
        }
    }

    fn tell(&mut self, pid: u32, now: Raw) -> Option<String> {
        if self.bucket.available(now) == 0 {
            self.untold += 1;
            return None;
        }
        self.bucket.take(1);
        let before = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            count => format!("; {count} such requests before it were not told"),
        };
        Some(format!(
            "process {pid} may not end the machine: it lacks CAP_SYS_BOOT{before}"
        ))
    }
}

/// Whether a process may end the machine: it could by itself too.
#[must_use]
pub fn may_end_machine(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    has_boot_capability(&status)
}

/// Looks for CAP_SYS_BOOT in the `CapEff` line of `/proc/PID/status`, a number in hexadecimal.
fn has_boot_capability(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .is_some_and(|set| set & (1 << Capability::SYS_BOOT.number()) != 0)
}

/// Reads the first fields of a `signalfd_siginfo`: signal, errno, code, sender.
fn parse(info: &[u8; SIGINFO_BYTES]) -> Option<Signal> {
    let word = |at: usize| {
        let mut word = [0u8; 4];
        word.copy_from_slice(&info[at..at + 4]);
        i32::from_ne_bytes(word)
    };
    let (signal, code, sender) = (word(0), word(8), word(12));
    match signal {
        libc::SIGCHLD => Some(Signal::Child),
        libc::SIGTERM | libc::SIGINT | libc::SIGPWR => {
            let by = match code {
                SI_KERNEL => None,
                // In these the sender is what the kernel says; in all others a process may claim
                // to be another one (kernel/signal.c, `do_rt_sigqueueinfo`).
                SI_USER | SI_TKILL => Some(u32::try_from(sender).ok()?),
                _ => return None,
            };
            Some(Signal::PowerOff { by })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(signal: i32, code: i32, sender: i32) -> [u8; SIGINFO_BYTES] {
        let mut info = [0xff; SIGINFO_BYTES];
        for (at, word) in [(0, signal), (8, code), (12, sender)] {
            info[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        info
    }

    #[test]
    fn requests_without_end_are_told_a_few_times_and_counted() {
        let mut refusals = Refusals::new(Raw(0));
        let told: Vec<String> = (0..1_000)
            .filter_map(|_| refusals.tell(7, Raw(0)))
            .collect();
        assert_eq!(told.len(), REFUSALS_TOLD);
        assert!(told.iter().all(|what| what.ends_with("CAP_SYS_BOOT")));
        let later = refusals.tell(8, Raw(REFUSALS_REFILL.0)).unwrap();
        assert!(later.contains("996 such requests"), "{later}");
    }

    #[test]
    fn the_number_in_front_tells_the_signal() {
        for (number, expected) in [
            (libc::SIGCHLD, Some(Signal::Child)),
            (libc::SIGINT, Some(Signal::PowerOff { by: None })),
            (libc::SIGTERM, Some(Signal::PowerOff { by: None })),
            (libc::SIGUSR1, None),
        ] {
            assert_eq!(parse(&info(number, SI_KERNEL, 0)), expected);
        }
    }

    #[test]
    fn a_sender_is_known_where_the_kernel_vouches_for_it() {
        let by = Some(Signal::PowerOff { by: Some(71) });
        assert_eq!(parse(&info(libc::SIGTERM, SI_USER, 71)), by);
        assert_eq!(parse(&info(libc::SIGTERM, SI_TKILL, 71)), by);
        let queued = -1;
        assert_eq!(parse(&info(libc::SIGTERM, queued, 71)), None);
    }

    #[test]
    fn only_the_capability_to_reboot_lets_a_process_end_the_machine() {
        assert!(has_boot_capability("Name:\tx\nCapEff:\t0000000000400000\n"));
        assert!(!has_boot_capability("CapEff:\t00000000a80425fb\n"));
        assert!(!has_boot_capability("CapEff:\tnonsense\n"));
        assert!(!has_boot_capability(""));
    }
}
