//! What the loop can wake for: one closed list, and the epoll behind it.

use std::os::fd::AsFd;

use noonmark_contract::units::Nanos;
use noonmark_linux::clocks;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// How many events one wake takes: one of each kind.
const BATCH: usize = WATCHED.len();

/// The longest wait: the loop always has an earlier deadline than this.
const LONGEST: Nanos = Nanos::from_secs(3_600);

/// Why the loop woke, in the order in which the reasons are served: the clock first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Somebody may have set the clock.
    ClockSet,
    /// The machine's VMClock changed.
    VmClock,
    /// The kernel sent uevents.
    Uevents,
    /// The time channel's port: whether a host is connected now.
    TimePort {
        /// The driver did not say that it is absent.
        connected: bool,
    },
    /// The NTP client sent something.
    NtpSocket,
    /// The guest agent asks for something.
    Agent,
    /// The status port, likewise.
    StatusPort {
        /// The driver did not say that it is absent.
        connected: bool,
    },
    /// Signals wait.
    Signals,
    /// The kernel sent ACPI events.
    Button,
    /// The seed's reader has answered, in part or whole.
    SeedReader,
    /// A service has written to a port, or the port can take more.
    Output,
    /// A service says how it is doing.
    Notify,
}

/// What an epoll registration stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// [`crate::clock::clock_set::ClockSetTimer`].
    ClockSet,
    /// [`crate::clock::vmclock::VmClock`], where it notifies.
    VmClock,
    /// [`crate::machine::uevents::Uevents`].
    Uevents,
    /// The time channel's port.
    TimePort,
    /// [`crate::clock::ntp_socket::NtpSocket`].
    NtpSocket,
    /// [`crate::machine::agent::Agent`].
    Agent,
    /// The status port.
    StatusPort,
    /// [`crate::machine::signals::Signals`].
    Signals,
    /// [`crate::machine::button::Button`].
    Button,
    /// [`crate::instance::search::SeedSearch`].
    SeedReader,
    /// A pipe of [`crate::services::relay`].
    OutputPipe,
    /// A port of [`crate::services::relay`].
    OutputPort,
    /// [`crate::services::notify`].
    Notify,
}

const WATCHED: [Watched; 13] = [
    Watched::ClockSet,
    Watched::VmClock,
    Watched::Uevents,
    Watched::TimePort,
    Watched::NtpSocket,
    Watched::Agent,
    Watched::StatusPort,
    Watched::Signals,
    Watched::Button,
    Watched::SeedReader,
    Watched::OutputPipe,
    Watched::OutputPort,
    Watched::Notify,
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

    /// Waits again on one that is waited on once at a time, or for the first time.
    ///
    /// # Errors
    /// As `epoll_ctl`.
    pub fn watch_again(&self, watched: Watched, descriptor: impl AsFd) -> Result<(), Errno> {
        let data = EventData::new_u64(watched as u64);
        match epoll::modify(&self.epoll, &descriptor, data, flags(watched)) {
            Err(Errno::NOENT) => self.watch(watched, descriptor),
            outcome => outcome,
        }
    }

    /// Waits on this descriptor no longer.
    ///
    /// # Errors
    /// As `epoll_ctl`.
    pub fn forget(&self, descriptor: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.epoll, descriptor)
    }

    /// Waits for the next events, for about `at_most`: rounded up to a millisecond, and never
    /// shorter than one, so that a deadline in the past can't turn the loop into a spin. Says how
    /// many there are; none where the time is over.
    ///
    /// A timeout of the wait itself, rather than a timer to wait for, because each descriptor that
    /// becomes ready costs another system call or two, at every tick.
    pub fn wait(&mut self, at_most: Nanos) -> usize {
        self.ready.clear();
        self.events.clear();
        let timeout = whole_milliseconds(at_most);
        // EINTR is the only failure of a valid call; the loop simply comes back.
        let waited = epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&timeout));
        if waited.is_ok() {
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

fn whole_milliseconds(span: Nanos) -> Timespec {
    let ms = (span.0.clamp(1, LONGEST.0) + 999_999) / 1_000_000;
    clocks::timespec(Nanos::from_millis(ms))
}

fn flags(watched: Watched) -> EventFlags {
    match watched {
        Watched::ClockSet
        | Watched::VmClock
        | Watched::Uevents
        | Watched::NtpSocket
        | Watched::Button
        | Watched::SeedReader => EventFlags::IN,
        // Once, because a service can write, and send signals, faster than PID 1 would serve it.
        Watched::OutputPipe | Watched::Signals | Watched::Notify | Watched::Agent => {
            EventFlags::IN | EventFlags::ONESHOT
        }
        // What a host writes to it is not read.
        Watched::OutputPort => EventFlags::OUT | EventFlags::ET,
        // Edge-triggered, because an absent host is a condition that lasts: see `ports`.
        Watched::TimePort | Watched::StatusPort => {
            EventFlags::IN | EventFlags::OUT | EventFlags::ET
        }
    }
}

fn event(watched: Watched, connected: bool) -> Event {
    match watched {
        Watched::ClockSet => Event::ClockSet,
        Watched::VmClock => Event::VmClock,
        Watched::Uevents => Event::Uevents,
        Watched::TimePort => Event::TimePort { connected },
        Watched::NtpSocket => Event::NtpSocket,
        Watched::Agent => Event::Agent,
        Watched::StatusPort => Event::StatusPort { connected },
        Watched::Signals => Event::Signals,
        Watched::Button => Event::Button,
        Watched::SeedReader => Event::SeedReader,
        Watched::OutputPipe | Watched::OutputPort => Event::Output,
        Watched::Notify => Event::Notify,
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
    fn a_wait_is_never_shorter_than_a_millisecond_nor_than_asked_for() {
        for (asked_ns, expected_ns) in [
            (-5, 1_000_000),
            (0, 1_000_000),
            (1_000_000, 1_000_000),
            (1_000_001, 2_000_000),
            (i64::MAX, 3_600_000_000_000),
        ] {
            let time = whole_milliseconds(Nanos(asked_ns));
            assert_eq!(
                Nanos(time.tv_sec * 1_000_000_000 + time.tv_nsec),
                Nanos(expected_ns)
            );
        }
    }

    #[test]
    fn a_wait_in_which_nothing_happens_ends() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut queue = EventQueue::new().unwrap();
        queue.watch(Watched::ClockSet, &ours).unwrap();
        assert_eq!(queue.wait(Nanos(1)), 0);
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
        assert_eq!(queue.wait(Nanos::from_secs(10)), 2);
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
        queue.wait(Nanos::from_secs(10));
        assert_eq!(queue.events, [Event::StatusPort { connected: false }]);
        alarm.write_all(b"x").unwrap();
        queue.wait(Nanos::from_secs(10));
        assert_eq!(queue.events, [Event::ClockSet]);
    }
}
