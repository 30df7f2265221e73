//! The socket by which the NTP client hands its samples in, and is asked for the next one.
//!
//! A sample sets the clock, so only that one program may hand one in: the kernel says which process
//! each datagram is from (SCM_CREDENTIALS, unix(7)). An empty datagram only says that the client is
//! there; what is sent to it, of whatever content, asks for a sample.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use noonmark_contract::ntp::sock::{SAMPLE_LEN, SOCKET, Sample};
use noonmark_contract::sample::{Method, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks::Sandwich;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, bind, recvmsg, sendto, socket_with,
};
use rustix::process::Pid;
use thiserror::Error;

/// A sample that was taken longer ago than this says too little of the present.
const AGE_MAX: Nanos = Nanos::from_secs(10);

/// The local clocks are read this often when a sample is placed, and the tightest is used.
const PLACING_READS: usize = 3;

/// How many datagrams one wake takes in.
const BATCH: u32 = 16;

/// Why there is no socket.
#[derive(Debug, Error)]
#[error("{SOCKET}: {what}: {errno}; the clock source ntp can't be used")]
pub struct SocketError {
    what: &'static str,
    errno: Errno,
}

/// PID 1's end of the socket.
#[derive(Debug)]
pub struct NtpSocket {
    socket: OwnedFd,
    /// The client's own address, once it has said anything.
    client: Option<SocketAddrUnix>,
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
    /// Opens the socket. Its folder must be there.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn open() -> Result<Self, SocketError> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> Result<Self, SocketError> {
        let failed = |what| move |errno| SocketError { what, errno };
        // One that an earlier PID 1 left can't be there, but a name that is taken would be fatal.
        let _ = fs::remove_file(path);
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(failed("opening a socket"))?;
        set_socket_passcred(&socket, true).map_err(failed("asking for the senders"))?;
        let address = SocketAddrUnix::new(path).map_err(failed("its name"))?;
        bind(&socket, &address).map_err(failed("binding a socket"))?;
        // Anybody may write; who did is checked.
        rustix::fs::chmod(path, Mode::from_raw_mode(0o666)).map_err(failed("its permissions"))?;
        Ok(Self {
            socket,
            client: None,
            budget: 0,
        })
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
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = recvmsg(&self.socket, &mut parts, &mut control, flags).ok()?;
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
            _ => None,
        });
        if sender.is_none() || sender != allowed {
            return Some(Datagram::Invalid);
        }
        let address = message
            .address
            .and_then(|address| SocketAddrUnix::try_from(address).ok());
        let is_new = address.is_some() && address != self.client;
        self.client = address;
        let bytes = bytes.get(..message.bytes).unwrap_or_default();
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
        let client = self.client.as_ref().ok_or(ReadFailure::Absent)?;
        match sendto(&self.socket, b"?", SendFlags::DONTWAIT, client) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN) => Err(ReadFailure::Timeout),
            Err(_) => {
                self.client = None;
                Err(ReadFailure::Absent)
            }
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
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

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
    fn pair(name: &str) -> (NtpSocket, UnixDatagram) {
        let name = format!("noonmark-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let socket = NtpSocket::at(&path).unwrap();
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let client = UnixDatagram::bind_addr(&address).unwrap();
        client.connect(&path).unwrap();
        fs::remove_file(&path).unwrap();
        (socket, client)
    }

    fn next(socket: &mut NtpSocket, allowed: Option<Pid>) -> Option<Datagram> {
        socket.begin();
        socket.next(allowed)
    }

    #[test]
    fn the_client_is_known_from_its_first_word_and_can_then_be_asked() {
        let (mut socket, client) = pair("hello");
        let us = Some(rustix::process::getpid());
        assert_eq!(socket.ask(), Err(ReadFailure::Absent));
        client.send(&[]).unwrap();
        assert_eq!(next(&mut socket, us), Some(Datagram::Hello));
        client.send(&[]).unwrap();
        assert_eq!(next(&mut socket, us), Some(Datagram::Invalid));
        assert_eq!(socket.ask(), Ok(()));
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
        drop(client);
        assert_eq!(socket.ask(), Err(ReadFailure::Absent));
    }

    #[test]
    fn a_sample_of_another_process_is_not_taken() {
        let (mut socket, client) = pair("foreign");
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
        let (mut socket, client) = pair("flood");
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
