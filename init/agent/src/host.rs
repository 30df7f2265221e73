//! The port to the host. What a host sends is taken in only when what it was answered before is out, so
//! that neither side can make the agent hold more than one request and its reply.
//!
//! As long as no host is connected, the port is ready for everything at once and for ever, so it is waited
//! on edge-triggered ([`noonmark_linux::ports`]).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use noonmark_contract::agent::{Found, Objects};
use noonmark_linux::ports::{Port, Transfer};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

/// How many bytes one read takes.
const READ_BYTES: usize = 4096;

/// How many requests are answered before PID 1 is heard again.
const ROUND: usize = 64;

/// The port, where there is one, and what is on its way.
#[derive(Debug)]
pub struct Host {
    /// Of the port alone.
    epoll: OwnedFd,
    port: Option<Port>,
    objects: Objects,
    /// What was read and not looked at yet, from `looked_at` on.
    input: Vec<u8>,
    looked_at: usize,
    /// What is still to be written.
    output: Vec<u8>,
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Host {
    /// Without a port yet.
    ///
    /// # Errors
    /// As `epoll_create1`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            port: None,
            objects: Objects::default(),
            input: Vec::new(),
            looked_at: 0,
            output: Vec::new(),
        })
    }

    /// Takes this port, in the place of any other.
    ///
    /// # Errors
    /// As `epoll_ctl`.
    pub fn attach(&mut self, port: File) -> io::Result<()> {
        self.detach();
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, &port, EventData::new_u64(0), flags)?;
        self.port = Some(Port::of(port));
        Ok(())
    }

    /// Serves what waits: each request is answered by `answer`, which gives what is to be written.
    pub fn serve(&mut self, mut answer: impl FnMut(Found) -> Vec<u8>) {
        self.take_event();
        for _ in 0..ROUND {
            if !self.flush() {
                return;
            }
            match self.next() {
                Some(found) => self.output = answer(found),
                None => return,
            }
        }
        // Not all has been served, and no event tells of what waits already.
        self.rearm();
    }

    /// Takes the event that the port is waited for with, which a level-triggered wait saw.
    fn take_event(&mut self) {
        let mut events = [epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let taken = epoll::wait(&self.epoll, &mut events[..], Some(&at_once));
        let flags = events[0].flags;
        if taken.is_ok_and(|count| count > 0) && flags.contains(EventFlags::HUP) {
            self.forget();
        }
    }

    fn rearm(&mut self) {
        let Some(port) = &self.port else { return };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        let data = EventData::new_u64(0);
        if epoll::modify(&self.epoll, port.descriptor(), data, flags).is_err() {
            self.detach();
        }
    }

    /// The next thing that the host said; none where it has said no more.
    fn next(&mut self) -> Option<Found> {
        loop {
            while self.looked_at < self.input.len() {
                let unseen = &self.input[self.looked_at..];
                let (found, rest) = self.objects.take(unseen);
                self.looked_at = self.input.len() - rest.len();
                if found.is_some() {
                    return found;
                }
            }
            self.input.resize(READ_BYTES, 0);
            self.looked_at = 0;
            let read = match &self.port {
                Some(port) => port.read(&mut self.input),
                None => Transfer::Wait,
            };
            let count = if let Transfer::Bytes(count) = read {
                count
            } else {
                0
            };
            self.input.truncate(count);
            match read {
                Transfer::Bytes(_) => {}
                Transfer::Wait => return None,
                Transfer::Disconnected => {
                    self.forget();
                    return None;
                }
                Transfer::Gone => {
                    self.detach();
                    return None;
                }
            }
        }
    }

    /// Writes what is to be written; false where some of it has to wait.
    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            let Some(port) = &self.port else { return false };
            match port.write(&self.output) {
                Transfer::Bytes(count) => drop(self.output.drain(..count)),
                Transfer::Wait => return false,
                Transfer::Disconnected => self.forget(),
                Transfer::Gone => self.detach(),
            }
        }
        true
    }

    /// The client went away: the next one has nothing to do with what that one said.
    fn forget(&mut self) {
        self.objects.clear();
        self.input.clear();
        self.looked_at = 0;
        self.output = Vec::new();
    }

    /// The port is gone; PID 1 hands over the next.
    fn detach(&mut self) {
        self.forget();
        self.port = None;
    }
}
