//! Signals as something to read, not to be interrupted by.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::sys;

/// A signal that means something to PID 1. All others are left to the kernel, which drops what PID 1
/// has no handler for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGCHLD: a child ended.
    Child,
    /// SIGTERM, SIGPWR, or SIGINT, which the kernel sends for Ctrl-Alt-Del: turn the machine off.
    PowerOff,
}

/// `struct signalfd_siginfo` is this long (include/uapi/linux/signalfd.h); its first word is the
/// signal's number.
const SIGINFO_BYTES: usize = 128;

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
            if let Some(signal) = meaning(&info) {
                return Some(signal);
            }
        }
        None
    }
}

fn meaning(info: &[u8; SIGINFO_BYTES]) -> Option<Signal> {
    let [a, b, c, d, ..] = *info;
    match i32::from_ne_bytes([a, b, c, d]) {
        libc::SIGCHLD => Some(Signal::Child),
        libc::SIGTERM | libc::SIGINT | libc::SIGPWR => Some(Signal::PowerOff),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_in_front_tells_the_signal() {
        let mut info = [0xff; SIGINFO_BYTES];
        for (number, expected) in [
            (libc::SIGCHLD, Some(Signal::Child)),
            (libc::SIGINT, Some(Signal::PowerOff)),
            (libc::SIGTERM, Some(Signal::PowerOff)),
            (libc::SIGUSR1, None),
        ] {
            info[..4].copy_from_slice(&number.to_ne_bytes());
            assert_eq!(meaning(&info), expected);
        }
    }
}
