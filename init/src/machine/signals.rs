//! Signals as something to read, not to be interrupted by.

use std::fs;
use std::os::fd::OwnedFd;

use noonmark_contract::config::Capability;
use noonmark_linux::sys;
use rustix::io::Errno;

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

/// Where they are read.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks them and starts to collect them.
    ///
    /// # Errors
    /// As `sigprocmask` and `signalfd`.
    pub fn open() -> Result<Self, Errno> {
        let descriptor =
            sys::signalfd(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGPWR])?;
        Ok(Self { descriptor })
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// The next signal; none where no more wait. Several of a kind may come as one.
    pub fn next(&self) -> Option<Signal> {
        let mut info = [0u8; SIGINFO_BYTES];
        while rustix::io::read(&self.descriptor, &mut info) == Ok(SIGINFO_BYTES) {
            if let Some(signal) = parse(&info) {
                return Some(signal);
            }
        }
        None
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
