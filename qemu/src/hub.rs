//! The status port's one reader: it hands records to its own program and to any number of
//! subscribers on a socket, and passes their commands on to the guest.
//!
//! One thread waits for all of them with one `poll`, and for none of them alone: a subscriber that
//! does not read is dropped, a command that the guest does not take is dropped once too many wait.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use noonmark_contract::record::{Command, Record};
use rustix::event::{EventfdFlags, PollFd, PollFlags};

use crate::guest_json::from_guest;
use crate::lines::LineBuffer;
use crate::outbox::Outbox;
use crate::port::json_line;

/// What may wait for a subscriber that reads slowly; beyond it the subscriber is dropped.
const SUBSCRIBER_BYTES_MAX: usize = 256 * 1024;

/// Commands that may wait for a guest that does not read; beyond it new ones are dropped.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Subscribers at once.
const SUBSCRIBERS_MAX: usize = 64;

/// Records that may wait in a subscription; beyond it new ones are dropped.
const SUBSCRIPTION_RECORDS_MAX: usize = 4096;

/// The running hub of one machine.
#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A subscription of this program itself, without a socket: records as they come.
#[derive(Debug)]
pub struct Subscription(Receiver<Record>);

/// Why a subscription has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// None came before the deadline.
    #[error("no record came before the deadline")]
    Timeout,
    /// The port was closed: QEMU has ended.
    #[error("the status port was closed")]
    Closed,
}

impl Subscription {
    /// The next record.
    ///
    /// # Errors
    /// At the deadline, and once the port is closed and everything was taken.
    pub fn next(&self, deadline: Instant) -> Result<Record, SubscriptionError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.0.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => SubscriptionError::Timeout,
            RecvTimeoutError::Disconnected => SubscriptionError::Closed,
        })
    }
}

#[derive(Debug)]
struct Shared {
    control: Mutex<Control>,
    /// An eventfd that wakes the hub's `poll`.
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct Control {
    commands: Vec<Vec<u8>>,
    subscriptions: Vec<SyncSender<Record>>,
    closed: bool,
    stop: bool,
    /// The port's end is no end of the machine: another port will come.
    held: bool,
    next_port: Option<UnixStream>,
    garbage: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // It fails only if 2^64 - 2 wakes wait already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Hub {
    /// Starts to serve: `port` is connected to the guest's status port, `listener` takes
    /// subscribers.
    ///
    /// # Errors
    /// Where the system refuses a thread or a file descriptor.
    pub fn start(port: UnixStream, listener: UnixListener) -> io::Result<Self> {
        port.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let shared = Arc::new(Shared {
            control: Mutex::new(Control::default()),
            wake: rustix::event::eventfd(0, flags)?,
        });
        let server = Server {
            shared: Arc::clone(&shared),
            port: Some(port),
            listener,
            from_guest: LineBuffer::default(),
            to_guest: Outbox::new(COMMAND_BYTES_MAX),
            subscribers: Vec::new(),
            last_status: None,
        };
        let thread = thread::Builder::new()
            .name("status-hub".to_owned())
            .spawn(move || server.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// A new subscription, from the next record on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        let (sender, receiver) = mpsc::sync_channel(SUBSCRIPTION_RECORDS_MAX);
        let mut control = self.shared.lock();
        if !control.closed {
            control.subscriptions.push(sender);
        }
        Subscription(receiver)
    }

    /// Sends a command to the guest; it goes out when the guest reads.
    ///
    /// # Errors
    /// Where it cannot be written as JSON, which none of the commands causes.
    pub fn send(&self, command: &Command) -> io::Result<()> {
        let line = json_line(command)?;
        self.shared.lock().commands.push(line);
        self.shared.wake();
        Ok(())
    }

    /// From now on the port's end is no end of the machine: it is migrated to another QEMU, whose port
    /// comes by [`Hub::replace`]. Until then commands wait.
    pub fn hold(&self) {
        self.shared.lock().held = true;
    }

    /// Goes on with the port of another QEMU, in which the same guest runs.
    ///
    /// # Errors
    /// Where the system refuses to make the socket non-blocking.
    pub fn replace(&self, port: UnixStream) -> io::Result<()> {
        port.set_nonblocking(true)?;
        self.shared.lock().next_port = Some(port);
        self.shared.wake();
        Ok(())
    }

    /// Lines from the guest that were no record.
    #[must_use]
    pub fn garbage(&self) -> u64 {
        self.shared.lock().garbage
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

struct Subscriber {
    stream: UnixStream,
    from: LineBuffer,
    to: Outbox,
    dropped: bool,
}

struct Server {
    shared: Arc<Shared>,
    /// None between two QEMUs.
    port: Option<UnixStream>,
    listener: UnixListener,
    from_guest: LineBuffer,
    to_guest: Outbox,
    subscribers: Vec<Subscriber>,
    last_status: Option<Vec<u8>>,
}

impl Server {
    fn run(mut self) {
        while self.take_requests() {
            if self.serve_once().is_err() && !self.close_port() {
                break;
            }
        }
        let mut control = self.shared.lock();
        control.closed = true;
        control.subscriptions.clear();
    }

    /// Takes over what the program wants; false where it wants an end.
    fn take_requests(&mut self) -> bool {
        let mut control = self.shared.lock();
        for command in control.commands.drain(..) {
            self.to_guest.push(&command);
        }
        let stop = control.stop;
        let next = control.next_port.take();
        if next.is_some() {
            control.held = false;
        }
        drop(control);
        if let Some(next) = next {
            // What the guest said before it was migrated comes first; half a line is completed by what comes next.
            while matches!(self.read_port(), Ok(true)) {}
            self.port = Some(next);
        }
        !stop
    }

    /// Closes a port that has ended; false where that is the machine's end.
    fn close_port(&mut self) -> bool {
        self.port = None;
        let control = self.shared.lock();
        control.held || control.next_port.is_some()
    }

    /// Waits for something to do and does it. An error ends the hub: the port is closed.
    fn serve_once(&mut self) -> io::Result<()> {
        let ready = self.wait()?;
        let mut drain = [0; 8];
        // Nothing to read only means that nobody woke us.
        let _ = rustix::io::read(&self.shared.wake, &mut drain);
        if ready.port {
            self.read_port()?;
        }
        if let Some(port) = &mut self.port {
            self.to_guest.flush(port)?;
        }
        for (subscriber, readable) in self.subscribers.iter_mut().zip(ready.subscribers) {
            if readable {
                subscriber.read(&mut self.to_guest);
            }
            subscriber.flush();
        }
        self.subscribers.retain(|subscriber| !subscriber.dropped);
        if ready.listener {
            self.accept();
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<Ready> {
        let interest = |outbox: &Outbox| match outbox.is_empty() {
            true => PollFlags::IN,
            false => PollFlags::IN | PollFlags::OUT,
        };
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.shared.wake.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        fds.extend(
            self.subscribers
                .iter()
                .map(|s| PollFd::from_borrowed_fd(s.stream.as_fd(), interest(&s.to))),
        );
        if let Some(port) = &self.port {
            let flags = interest(&self.to_guest);
            fds.push(PollFd::from_borrowed_fd(port.as_fd(), flags));
        }
        loop {
            match rustix::event::poll(&mut fds, None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let readable = |fd: &PollFd<'_>| {
            fd.revents()
                .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
        };
        Ok(Ready {
            port: self.port.is_some() && fds.last().is_some_and(readable),
            listener: readable(&fds[1]),
            subscribers: fds[2..2 + self.subscribers.len()]
                .iter()
                .map(readable)
                .collect(),
        })
    }

    /// Reads the port once and hands its records on; false where nothing was there. An error is
    /// the port's end.
    fn read_port(&mut self) -> io::Result<bool> {
        let Some(port) = &mut self.port else {
            return Ok(false);
        };
        let before = self.from_guest.oversized();
        let read = read_into(port, &mut self.from_guest)?;
        let mut garbage = self.from_guest.oversized() - before;
        while let Some(mut line) = self.from_guest.pop() {
            let Ok(record) = from_guest::<Record>(&line) else {
                garbage += 1;
                continue;
            };
            line.push(b'\n');
            for subscriber in &mut self.subscribers {
                // Half a record would spoil the stream, so whoever cannot take one is dropped.
                subscriber.dropped |= !subscriber.to.push(&line);
            }
            if matches!(record, Record::Status(_)) {
                self.last_status = Some(line);
            }
            self.shared.lock().subscriptions.retain(|subscription| {
                !matches!(
                    subscription.try_send(record.clone()),
                    Err(mpsc::TrySendError::Disconnected(_))
                )
            });
        }
        self.shared.lock().garbage += garbage;
        match read {
            Read::Bytes => Ok(true),
            Read::Nothing => Ok(false),
            Read::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn accept(&mut self) {
        // A failure here concerns the new subscriber alone, who sees the connection close.
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        if self.subscribers.len() >= SUBSCRIBERS_MAX || stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut subscriber = Subscriber {
            stream,
            from: LineBuffer::default(),
            to: Outbox::new(SUBSCRIBER_BYTES_MAX),
            dropped: false,
        };
        if let Some(status) = &self.last_status {
            subscriber.to.push(status);
        }
        subscriber.flush();
        self.subscribers.push(subscriber);
    }
}

struct Ready {
    port: bool,
    listener: bool,
    subscribers: Vec<bool>,
}

impl Subscriber {
    /// Passes on what is a command; what is none is dropped here and never bothers the guest.
    fn read(&mut self, to_guest: &mut Outbox) {
        if matches!(
            read_into(&mut self.stream, &mut self.from),
            Ok(Read::End) | Err(_)
        ) {
            self.dropped = true;
        }
        while let Some(mut line) = self.from.pop() {
            if serde_json::from_slice::<Command>(&line).is_ok() {
                line.push(b'\n');
                to_guest.push(&line);
            }
        }
    }

    fn flush(&mut self) {
        self.dropped |= self.to.flush(&mut self.stream).is_err();
    }
}

/// What one read came to.
enum Read {
    Bytes,
    Nothing,
    End,
}

/// Reads once.
fn read_into(stream: &mut UnixStream, buffer: &mut LineBuffer) -> io::Result<Read> {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(0) => Ok(Read::End),
        Ok(count) => {
            buffer.push(&chunk[..count]);
            Ok(Read::Bytes)
        }
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Read::Nothing),
            _ => Err(error),
        },
    }
}
