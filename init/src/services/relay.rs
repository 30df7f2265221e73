//! Services' output on its way to virtio-serial ports: through a pipe, PID 1, and a bounded buffer.
//!
//! A service that wrote to the port itself would stand still for as long as no host reads there. Here
//! the oldest output is dropped instead, and counted. What is read from a pipe is bounded by
//! `TURN_BYTES` in each `TURN`, so that a service which writes without end waits for PID 1 a
//! moment at a time, rather than PID 1 for it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::ports::{Port, Transfer};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// What may wait for a slow or absent host, per port.
const BACKLOG_BYTES: usize = 64 * 1024;

/// How many bytes one read takes: what a pipe keeps together (`PIPE_BUF`).
const READ_BYTES: usize = 4096;

/// How many bytes one turn takes from a pipe, and how soon the next turn may be.
const TURN_BYTES: usize = 32 * 1024;
const TURN: Nanos = Nanos::from_millis(10);

/// Copies output from a pipe to one port.
#[derive(Debug)]
pub struct Relay {
    name: String,
    pipe: OwnedFd,
    /// Services' end; kept open, so that the pipe never ends.
    writer: OwnedFd,
    port: Option<Port>,
    backlog: Backlog,
    again: Option<Raw>,
}

/// Output that the port has not taken yet; the oldest makes room for the newest.
#[derive(Debug, Default)]
struct Backlog {
    bytes: VecDeque<u8>,
    dropped_bytes: u64,
}

/// The relays to all ports that services write to.
#[derive(Debug, Default)]
pub struct Relays {
    relays: Vec<Relay>,
    /// Descriptors that the loop does not wait on yet.
    unwatched: Vec<Unwatched>,
}

/// A descriptor that the loop is still to wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwatched {
    Pipe(usize),
    Port(usize),
}

/// A descriptor to wait on.
#[derive(Debug)]
pub enum Wait<'a> {
    /// For output, once.
    Pipe(BorrowedFd<'a>),
    /// For the host, edge-triggered.
    Port(BorrowedFd<'a>),
}

impl Relays {
    /// What a service writes to so that it comes to this port; services may share one. Whether the
    /// port is there yet doesn't matter.
    ///
    /// # Errors
    /// As `pipe2`.
    pub fn writer(&mut self, name: &str) -> Result<BorrowedFd<'_>, Errno> {
        let found = self.relays.iter().position(|relay| relay.name == name);
        let place = match found {
            Some(place) => place,
            None => {
                self.relays.push(Relay::new(name)?);
                let place = self.relays.len() - 1;
                self.unwatched.push(Unwatched::Pipe(place));
                self.look_for_port(place);
                place
            }
        };
        Ok(self.relays[place].writer.as_fd())
    }

    /// Looks for ports again, after something was plugged in or out.
    pub fn rescan(&mut self) {
        for place in 0..self.relays.len() {
            self.look_for_port(place);
        }
    }

    /// Whether a port that services write to is there.
    #[must_use]
    pub fn has_port(&self, name: &str) -> bool {
        self.of_port(name).is_some_and(|relay| relay.port.is_some())
    }

    fn look_for_port(&mut self, place: usize) {
        if self.relays[place].look_for_port() {
            self.unwatched.push(Unwatched::Port(place));
        }
    }

    /// Something has happened to one of the descriptors: moves output on.
    pub fn on_event(&mut self, now: Raw) {
        for relay in &mut self.relays {
            relay.flush();
            if relay.again.is_none() {
                relay.take_in();
                relay.again = Some(now + TURN);
            }
        }
    }

    /// What has become due: pipes that may be waited on again.
    pub fn due(&mut self, now: Raw) {
        for (place, relay) in self.relays.iter_mut().enumerate() {
            if relay.again.is_some_and(|at| at <= now) {
                relay.again = None;
                self.unwatched.push(Unwatched::Pipe(place));
            }
        }
    }

    /// When [`Relays::due`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Raw> {
        self.relays.iter().filter_map(|relay| relay.again).min()
    }

    /// Hands out each descriptor that is to be waited on from now on.
    pub fn wait_on(&mut self, mut each: impl FnMut(Wait<'_>)) {
        for unwatched in self.unwatched.drain(..) {
            match unwatched {
                Unwatched::Pipe(place) => each(Wait::Pipe(self.relays[place].pipe.as_fd())),
                Unwatched::Port(place) => {
                    if let Some(port) = &self.relays[place].port {
                        each(Wait::Port(port.descriptor().as_fd()));
                    }
                }
            }
        }
    }

    /// How many bytes of output to this port were dropped.
    #[must_use]
    pub fn dropped_bytes(&self, name: &str) -> u64 {
        self.of_port(name)
            .map_or(0, |relay| relay.backlog.dropped_bytes)
    }

    fn of_port(&self, name: &str) -> Option<&Relay> {
        self.relays.iter().find(|relay| relay.name == name)
    }
}

impl Relay {
    fn new(name: &str) -> Result<Self, Errno> {
        let (pipe, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only this end: programs don't expect that their output is refused.
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        Ok(Self {
            name: name.into(),
            pipe,
            writer,
            port: None,
            backlog: Backlog::default(),
            again: None,
        })
    }

    /// True where the port is there and was not before.
    fn look_for_port(&mut self) -> bool {
        if self.port.as_ref().is_some_and(|port| !port.exists()) {
            self.port = None;
        }
        if self.port.is_some() {
            return false;
        }
        // One that can't be opened counts as missing, which is reported.
        self.port = Port::open(&self.name).ok().flatten();
        self.port.is_some()
    }

    fn take_in(&mut self) {
        let mut buffer = [0u8; READ_BYTES];
        for _ in 0..TURN_BYTES / READ_BYTES {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(count @ 1..) => self.backlog.push(&buffer[..count]),
                // Empty for now; it has no end, because its writer stays open.
                Ok(0) | Err(_) => break,
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(port) = &self.port
            && !self.backlog.bytes.is_empty()
        {
            match port.write(self.backlog.bytes.as_slices().0) {
                Transfer::Bytes(count) => drop(self.backlog.bytes.drain(..count)),
                Transfer::Wait | Transfer::Disconnected => return,
                Transfer::Gone => self.port = None,
            }
        }
    }
}

impl Backlog {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(BACKLOG_BYTES);
        self.bytes.drain(..excess);
        self.dropped_bytes += excess as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A port of this name no machine has.
    const NOWHERE: &str = "noonmark-tests.nowhere";

    fn write(relays: &mut Relays, bytes: &[u8]) {
        let writer = relays.writer(NOWHERE).unwrap();
        assert_eq!(rustix::io::write(writer, bytes), Ok(bytes.len()));
    }

    #[test]
    fn output_for_which_nobody_is_there_is_taken_in_and_the_oldest_of_it_dropped() {
        let mut relays = Relays::default();
        let mut now = Raw(0);
        for _ in 0..20 {
            write(&mut relays, &[b'x'; TURN_BYTES]);
            relays.on_event(now);
            now = now + TURN;
            relays.due(now);
        }
        assert_eq!(relays.relays[0].backlog.bytes.len(), BACKLOG_BYTES);
        let dropped = (20 * TURN_BYTES - BACKLOG_BYTES) as u64;
        assert_eq!(relays.dropped_bytes(NOWHERE), dropped);
        assert!(!relays.has_port(NOWHERE));
    }

    #[test]
    fn a_writer_without_end_costs_a_bounded_part_of_each_turn() {
        let mut relays = Relays::default();
        write(&mut relays, &[b'x'; 2 * TURN_BYTES]);
        let mut pipes = 0;
        relays.wait_on(|wait| pipes += i32::from(matches!(wait, Wait::Pipe(_))));
        assert_eq!(pipes, 1);
        for _ in 0..3 {
            relays.on_event(Raw(0));
        }
        assert_eq!(relays.relays[0].backlog.bytes.len(), TURN_BYTES);
        // Nothing is waited on again before the turn is over.
        relays.due(Raw(0) + TURN - Nanos(1));
        relays.wait_on(|wait| panic!("{wait:?}"));
        assert_eq!(relays.deadline(), Some(Raw(0) + TURN));
        relays.due(Raw(0) + TURN);
        relays.wait_on(|_| pipes += 1);
        assert_eq!((pipes, relays.deadline()), (2, None));
    }

    #[test]
    fn services_of_one_port_share_the_way_to_it() {
        let mut relays = Relays::default();
        write(&mut relays, b"one ");
        write(&mut relays, b"two");
        relays.on_event(Raw(0));
        assert_eq!(relays.relays.len(), 1);
        assert_eq!(relays.relays[0].backlog.bytes, b"one two");
    }

    proptest! {
        #[test]
        fn what_waits_is_the_newest_and_what_is_gone_was_counted(
            lengths in prop::collection::vec(0usize..40_000, 0..12),
        ) {
            let mut backlog = Backlog::default();
            let mut all = Vec::new();
            for (piece, length) in lengths.into_iter().enumerate() {
                let bytes = vec![piece as u8; length];
                backlog.push(&bytes);
                all.extend_from_slice(&bytes);
            }
            let kept = &all[all.len().saturating_sub(BACKLOG_BYTES)..];
            prop_assert_eq!(Vec::from(backlog.bytes), kept);
            prop_assert_eq!(backlog.dropped_bytes, (all.len() - kept.len()) as u64);
        }
    }
}
