//! What the loop can wake for: one closed list, and the epoll behind it.

use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// How many events one wake takes; there are no more kinds than this.
const BATCH: usize = 8;

/// Why the loop woke, in the order in which the reasons are served: the clock first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Somebody may have set the clock.
    ClockSet,
    /// A deadline has come.
    Wake,
    /// The kernel sent uevents.
    Uevents,
    /// The time channel's port: whether a host is connected now.
    TimePort {
        /// The driver did not say that it is absent.
        connected: bool,
    },
    /// The status port, likewise.
    StatusPort {
        /// The driver did not say that it is absent.
        connected: bool,
    },
    /// Signals wait.
    Signals,
}

/// What an epoll registration stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// [`crate::timers::ClockSetTimer`].
    ClockSet,
    /// [`crate::timers::WakeTimer`].
    Wake,
    /// [`crate::uevent::Uevents`].
    Uevents,
    /// The time channel's port.
    TimePort,
    /// The status port.
    StatusPort,
    /// [`crate::signals::Signals`].
    Signals,
}

const WATCHED: [Watched; 6] = [
    Watched::ClockSet,
    Watched::Wake,
    Watched::Uevents,
    Watched::TimePort,
    Watched::StatusPort,
    Watched::Signals,
];

/// The descriptors that the loop waits on.
pub struct EventQueue {
    epoll: rustix::fd::OwnedFd,
    ready: Vec<epoll::Event>,
    events: Vec<Event>,
}

impl EventQueue {
    /// Waits on nothing yet.
    ///
    /// # Errors
    /// As `epoll_create1`.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(BATCH),
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Waits on this descriptor too, until it is closed.
    ///
    /// # Errors
    /// As `epoll_ctl`.
    pub fn watch(&self, watched: Watched, descriptor: impl AsFd) -> Result<(), Errno> {
        epoll::add(
            &self.epoll,
            descriptor,
            EventData::new_u64(watched as u64),
            flags(watched),
        )
    }

    /// Waits for the next events, without a timeout of its own: the wake timer is one of them.
    /// Says how many there are.
    pub fn wait(&mut self) -> usize {
        self.ready.clear();
        self.events.clear();
        // EINTR is the only failure of a valid call; the loop simply comes back.
        if epoll::wait(&self.epoll, spare_capacity(&mut self.ready), None).is_ok() {
            for ready in &self.ready {
                // A copy, because the kernel's structure is packed.
                let flags = ready.flags;
                let connected = !flags.contains(EventFlags::HUP);
                let watched = WATCHED.get(ready.data.u64() as usize);
                if let Some(&watched) = watched {
                    self.events.push(event(watched, connected));
                }
            }
            self.events.sort_unstable();
        }
        self.events.len()
    }

    /// One of the events that the last wait brought.
    #[must_use]
    pub fn event(&self, index: usize) -> Event {
        self.events[index]
    }
}

fn flags(watched: Watched) -> EventFlags {
    match watched {
        Watched::ClockSet | Watched::Uevents | Watched::Signals => EventFlags::IN,
        // Edge-triggered, so that an expiry needs no read: arming the timer again clears it.
        Watched::Wake => EventFlags::IN | EventFlags::ET,
        // Edge-triggered, because an absent host is a condition that lasts: see `ports`.
        Watched::TimePort | Watched::StatusPort => {
            EventFlags::IN | EventFlags::OUT | EventFlags::ET
        }
    }
}

fn event(watched: Watched, connected: bool) -> Event {
    match watched {
        Watched::ClockSet => Event::ClockSet,
        Watched::Wake => Event::Wake,
        Watched::Uevents => Event::Uevents,
        Watched::TimePort => Event::TimePort { connected },
        Watched::StatusPort => Event::StatusPort { connected },
        Watched::Signals => Event::Signals,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn each_registration_comes_back_as_its_own_event() {
        for (index, watched) in WATCHED.into_iter().enumerate() {
            assert_eq!(index, watched as usize);
        }
    }

    #[test]
    fn the_clock_is_served_before_anything_else() {
        let (status_end, mut status) = UnixStream::pair().unwrap();
        let (clock_end, mut clock) = UnixStream::pair().unwrap();
        let mut queue = EventQueue::new().unwrap();
        queue.watch(Watched::StatusPort, &status_end).unwrap();
        queue.watch(Watched::ClockSet, &clock_end).unwrap();
        status.write_all(b"x").unwrap();
        clock.write_all(b"x").unwrap();
        assert_eq!(queue.wait(), 2);
        assert_eq!(
            queue.events,
            [Event::ClockSet, Event::StatusPort { connected: true }]
        );
    }

    #[test]
    fn a_host_that_is_gone_wakes_the_loop_once_and_not_for_ever() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (alarm_end, mut alarm) = UnixStream::pair().unwrap();
        let mut queue = EventQueue::new().unwrap();
        queue.watch(Watched::StatusPort, &ours).unwrap();
        queue.watch(Watched::ClockSet, &alarm_end).unwrap();
        drop(theirs);
        queue.wait();
        assert_eq!(queue.events, [Event::StatusPort { connected: false }]);
        alarm.write_all(b"x").unwrap();
        queue.wait();
        assert_eq!(queue.events, [Event::ClockSet]);
    }
}
