//! The socket by which the NTP client hands its samples in, and is asked for the next one.
//!
//! A sample sets the clock, so only that one program may hand one in: the socket has no name, and the
//! client's end is what it finds as its standard input. A process that the client left behind has that
//! end too, so the kernel says which process each datagram is from (SCM_CREDENTIALS, unix(7)). An empty
//! datagram only says that the client is there; what is sent to it, of whatever content, asks for a
//! sample.

use std::os::fd::OwnedFd;

use noonmark_contract::ntp::sock::{SAMPLE_LEN, Sample};
use noonmark_contract::sample::{Method, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks::Sandwich;
use noonmark_linux::datagrams;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::{Pid, test_kill_process};
use thiserror::Error;

/// A sample that was taken longer ago than this says too little of the present.
const AGE_MAX: Nanos = Nanos::from_secs(10);

/// The local clocks are read this often when a sample is placed, and the tightest is used.
const PLACING_READS: usize = 3;

/// How many datagrams one wake takes in.
const BATCH: u32 = 16;

/// Why there is no socket.
#[derive(Debug, Error)]
#[error("the NTP client's socket: {what}: {errno}; the clock source ntp can't be used")]
pub struct SocketError {
    what: &'static str,
    errno: Errno,
}

/// PID 1's end of the socket.
#[derive(Debug)]
pub struct NtpSocket {
    socket: OwnedFd,
    /// The client's process, once it has said anything.
    client: Option<Pid>,
    budget: u32,
}

/// A datagram of the client's.
#[derive(Debug, PartialEq, Eq)]
pub enum Datagram {
    /// The client is there, and was not before.
    Hello,
    /// A sample, placed at the present.
    Sample(Reading),
    /// Nothing that can be used: of another process, or no sample.
    Invalid,
}

impl NtpSocket {
    /// Opens the socket; the client's end comes second. Neither end may be waited on by a read or a
    /// write of PID 1's.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn open() -> Result<(Self, OwnedFd), SocketError> {
        let failed = |what| move |errno| SocketError { what, errno };
        // Blocking, as the client wants it: both ends have their flags in common here.
        let (socket, client_end) = socketpair(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(failed("opening a pair"))?;
        set_socket_passcred(&socket, true).map_err(failed("asking for the senders"))?;
        let ours = Self {
            socket,
            client: None,
            budget: 0,
        };
        Ok((ours, client_end))
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn descriptor(&self) -> &OwnedFd {
        &self.socket
    }

    /// Begins to take in what has come.
    pub fn begin(&mut self) {
        self.budget = BATCH;
    }

    /// The next datagram, where `allowed` is the process that may send any; none where no more
    /// wait, or enough were taken for now.
    pub fn next(&mut self, allowed: Option<Pid>) -> Option<Datagram> {
        if self.budget == 0 {
            return None;
        }
        self.budget -= 1;
        // One more byte than a sample has, so that a longer datagram is seen to be none.
        let mut bytes = [0u8; SAMPLE_LEN + 1];
        let (sender, length) = datagrams::receive(&self.socket, &mut bytes)?;
        if sender.is_none() || sender != allowed {
            return Some(Datagram::Invalid);
        }
        let is_new = sender != self.client;
        self.client = sender;
        let bytes = bytes.get(..length).unwrap_or_default();
        Some(match Sample::from_bytes(bytes) {
            Some(sample) => place(&sample, Sandwich::tightest(PLACING_READS))
                .map_or(Datagram::Invalid, Datagram::Sample),
            None if is_new => Datagram::Hello,
            None => Datagram::Invalid,
        })
    }

    /// Asks the client for a sample.
    ///
    /// # Errors
    /// `Absent` where no client has said that it is there, or it is gone; `Timeout` where it does
    /// not take in what it is sent.
    pub fn ask(&mut self) -> Result<(), ReadFailure> {
        // PID 1 has the client's end too, so that the socket doesn't tell that the client is gone.
        let is_there = |pid: &Pid| test_kill_process(*pid).is_ok();
        if self.client.filter(is_there).is_none() {
            self.client = None;
            return Err(ReadFailure::Absent);
        }
        match send(&self.socket, b"?", SendFlags::DONTWAIT) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN) => Err(ReadFailure::Timeout),
            Err(_) => Err(ReadFailure::Absent),
        }
    }
}

/// Carries a sample on to the instant of `local`, at which both guest clocks are known. None where
/// it is too old, or of the future.
fn place(sample: &Sample, local: Sandwich) -> Option<Reading> {
    let now: Raw = local.raw();
    let elapsed = now - sample.raw;
    if !(-local.width()..=AGE_MAX).contains(&elapsed) {
        return None;
    }
    Some(Reading {
        source: Source::Ntp,
        method: Method::RoundTrip,
        reference: sample.reference + elapsed,
        realtime: local.realtime,
        raw: now,
        bound: sample.bound + Nanos(local.width().0 / 2 + 1) + elapsed.raw_skew(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use noonmark_contract::units::Utc;
    use noonmark_linux::clocks;

    use super::*;

    fn sample(raw: Raw) -> Sample {
        Sample {
            realtime: Utc(1_800_000_000_000_000_000),
            reference: Utc(1_800_000_000_500_000_000),
            raw,
            bound: Nanos(1_000),
        }
    }

    /// PID 1's end and a client's, both of this process.
    fn pair() -> (NtpSocket, UnixDatagram) {
        let (socket, client) = NtpSocket::open().unwrap();
        (socket, UnixDatagram::from(client))
    }

    fn next(socket: &mut NtpSocket, allowed: Option<Pid>) -> Option<Datagram> {
        socket.begin();
        socket.next(allowed)
    }

    #[test]
    fn the_client_is_known_from_its_first_word_and_can_then_be_asked() {
        let (mut socket, client) = pair();
        let us = Some(rustix::process::getpid());
        assert_eq!(socket.ask(), Err(ReadFailure::Absent));
        client.send(&[]).unwrap();
        assert_eq!(next(&mut socket, us), Some(Datagram::Hello));
        client.send(&[]).unwrap();
        assert_eq!(next(&mut socket, us), Some(Datagram::Invalid));
        assert_eq!(socket.ask(), Ok(()));
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
    }

    #[test]
    fn a_client_that_is_gone_is_absent_and_its_end_is_the_next_ones() {
        let (mut socket, client) = pair();
        let send = "import os, socket; socket.socket(fileno=0).send(b'')";
        let speak = || {
            let input = client.try_clone().unwrap();
            let mut python = Command::new("python3");
            let python = python.args(["-c", send]).stdin(OwnedFd::from(input));
            let mut child = python.spawn().unwrap();
            let pid = Pid::from_child(&child);
            assert!(child.wait().unwrap().success());
            pid
        };
        for _ in 0..2 {
            let pid = speak();
            assert_eq!(next(&mut socket, Some(pid)), Some(Datagram::Hello));
            assert_eq!(socket.ask(), Err(ReadFailure::Absent));
        }
    }

    #[test]
    fn a_sample_of_another_process_is_not_taken() {
        let (mut socket, client) = pair();
        let bytes = sample(clocks::raw()).to_bytes();
        client.send(&bytes).unwrap();
        assert_eq!(next(&mut socket, Some(Pid::INIT)), Some(Datagram::Invalid));
        client.send(&bytes).unwrap();
        assert_eq!(next(&mut socket, None), Some(Datagram::Invalid));
        assert_eq!(socket.ask(), Err(ReadFailure::Absent));
        client.send(&bytes).unwrap();
        let us = Some(rustix::process::getpid());
        let taken = next(&mut socket, us);
        assert!(matches!(taken, Some(Datagram::Sample(_))), "{taken:?}");
        client.send(&[&bytes[..], b"x"].concat()).unwrap();
        assert_eq!(next(&mut socket, us), Some(Datagram::Invalid));
        assert_eq!(next(&mut socket, us), None);
    }

    #[test]
    fn a_flood_is_taken_in_batches() {
        let (mut socket, client) = pair();
        client.set_nonblocking(true).unwrap();
        for _ in 0..BATCH + 4 {
            // The kernel's own limit comes first on some machines; the batch below shows either.
            let _ = client.send(&[]);
        }
        socket.begin();
        let mut taken = 0;
        while socket.next(None).is_some() {
            taken += 1;
        }
        assert!(taken <= BATCH);
    }

    #[test]
    fn a_sample_is_carried_on_to_the_present_whatever_the_clock_was_set_to_since() {
        let local = Sandwich {
            before: Raw(3_000_000_000),
            realtime: Utc(5),
            after: Raw(3_000_000_100),
        };
        let reading = place(&sample(Raw(1_000_000_050)), local).unwrap();
        assert_eq!(reading.reference, Utc(1_800_000_002_500_000_000));
        assert_eq!(reading.realtime, Utc(5));
        assert_eq!(reading.bound, Nanos(1_000 + 51 + 1_000_000));
        assert_eq!(place(&sample(Raw(3_100_000_000)), local), None);
        assert_eq!(place(&sample(Raw(-8_000_000_000)), local), None);
    }
}
