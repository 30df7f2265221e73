//! The host's end of the ports on which a guest runs commands: a command's streams are joined to readers
//! and writers of this host, and its end is waited for.
//!
//! Each stream is copied by a thread of its own, so that none waits for another. What holds up a reader
//! here holds up the command there: QEMU takes no more from the port than the socket has room for.

use std::fmt;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use noonmark_contract::run::{End, Order, Program, Report};
use rustix::event::{PollFd, PollFlags, poll};

use crate::lines::LineReader;
use crate::port::{PortError, json_line};

/// What is copied at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// No number of bytes yet.
const UNTOLD: u64 = u64::MAX;

/// The signal of a program whose reader is gone.
const SIGPIPE: i32 = 13;

/// What a command reads and writes on this host.
pub struct Streams {
    /// Its standard input; it must end before another command can run.
    pub stdin: Box<dyn Read + Send>,
    /// Where its standard output goes.
    pub stdout: Box<dyn Write + Send>,
    /// Where its error output goes.
    pub stderr: Box<dyn Write + Send>,
}

/// How a command came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It ran.
    Ran {
        /// How it ended.
        end: End,
        /// The bytes of its standard output and error output.
        bytes: [u64; 2],
    },
    /// It could not be run.
    NotRun {
        /// What a shell would exit with, 126 or 127.
        status: u8,
        /// Why, in the guest's words.
        why: String,
    },
}

/// A command that runs in the guest.
#[derive(Debug)]
pub struct RunningCommand {
    input: JoinHandle<()>,
    outputs: [Output; 2],
    first: Arc<OnceLock<Instant>>,
    signaller: Signaller,
}

/// Sends a running command signals; also from a signal's handler thread.
#[derive(Clone, Debug)]
pub struct Signaller(Arc<Mutex<UnixStream>>);

/// The four ports.
#[derive(Debug)]
pub(crate) struct CommandPorts {
    orders: Arc<Mutex<UnixStream>>,
    pub(crate) reports: LineReader,
    streams: [UnixStream; 3],
    /// Copies the input of the command before.
    before: Option<JoinHandle<()>>,
}

/// A thread that copies output, and what tells it where that ends.
#[derive(Debug)]
struct Output {
    copy: JoinHandle<()>,
    end: Arc<AtomicU64>,
    /// Dropped once the end is told.
    untold: Option<PipeWriter>,
}

impl Signaller {
    /// Sends the command's process group a signal, 1 to 64.
    ///
    /// # Errors
    /// Where the machine is gone.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        send(&self.0, &Order::Signal(number))
    }
}

impl RunningCommand {
    /// What sends it signals.
    #[must_use]
    pub fn signaller(&self) -> Signaller {
        self.signaller.clone()
    }

    /// Where the arrival of its output's first byte will be noted.
    #[must_use]
    pub fn first_output(&self) -> Arc<OnceLock<Instant>> {
        Arc::clone(&self.first)
    }

    /// Lets its outputs end after so many bytes.
    pub(crate) fn tell_end(&mut self, bytes: [u64; 2]) {
        for (output, bytes) in self.outputs.iter_mut().zip(bytes) {
            output.end.store(bytes, Ordering::Release);
            output.untold = None;
        }
    }

    /// Whether its outputs are written, up to where they end.
    pub(crate) fn is_drained(&self) -> bool {
        self.outputs.iter().all(|output| output.copy.is_finished())
    }
}

impl CommandPorts {
    pub(crate) fn new([orders, streams @ ..]: [UnixStream; 4]) -> io::Result<Self> {
        Ok(Self {
            reports: LineReader::new(orders.try_clone()?),
            orders: Arc::new(Mutex::new(orders)),
            streams,
            before: None,
        })
    }

    /// Whether the input of the command before has ended; without, none can be started.
    pub(crate) fn is_free(&self) -> bool {
        self.before.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(crate) fn start(
        &mut self,
        program: &Program,
        streams: Streams,
    ) -> Result<RunningCommand, PortError> {
        program
            .check()
            .map_err(|error| PortError::Write(io::Error::new(ErrorKind::InvalidInput, error)))?;
        let order = Order::Run(program.clone());
        send(&self.orders, &order).map_err(PortError::Write)?;
        self.join(streams).map_err(PortError::Write)
    }

    fn join(&self, streams: Streams) -> io::Result<RunningCommand> {
        let signaller = Signaller(Arc::clone(&self.orders));
        let first = Arc::new(OnceLock::new());
        let [to_input, from_output, from_errors] = &self.streams;
        let output = |from: &UnixStream, to, name: &str| {
            let (told, untold) = io::pipe()?;
            let end = Arc::new(AtomicU64::new(UNTOLD));
            let copy = OutputCopy {
                from: from.try_clone()?,
                to,
                end: Arc::clone(&end),
                told,
                first: Arc::clone(&first),
                signaller: signaller.clone(),
            };
            io::Result::Ok(Output {
                copy: spawn(name, move || copy.run())?,
                end,
                untold: Some(untold),
            })
        };
        let outputs = [
            output(from_output, streams.stdout, "stdout")?,
            output(from_errors, streams.stderr, "stderr")?,
        ];
        let (port, orders) = (to_input.try_clone()?, Arc::clone(&self.orders));
        let input = spawn("stdin", move || {
            let count = copy_input(streams.stdin, port);
            // Where the machine is gone, nobody waits for it.
            let _ = send(&orders, &Order::InputEnds(count));
        })?;
        Ok(RunningCommand {
            input,
            outputs,
            first,
            signaller,
        })
    }

    /// The command's input is still to end, before there can be another.
    pub(crate) fn after(&mut self, ended: RunningCommand) {
        self.before = Some(ended.input);
    }
}

impl Ended {
    /// What a report says of a command's end; none where it says something else.
    pub(crate) fn of(report: Report) -> Option<Self> {
        match report {
            Report::Started => None,
            Report::Failed { status, why } => Some(Self::NotRun { status, why }),
            Report::Ended {
                end,
                stdout,
                stderr,
            } => Some(Self::Ran {
                end,
                bytes: [stdout, stderr],
            }),
        }
    }

    /// The bytes of its standard output and error output.
    #[must_use]
    pub fn bytes(&self) -> [u64; 2] {
        match self {
            Self::Ran { bytes, .. } => *bytes,
            Self::NotRun { .. } => [0, 0],
        }
    }

    /// As a shell tells it.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Ran { end, .. } => end.status(),
            Self::NotRun { status, .. } => *status,
        }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streams")
    }
}

/// What copies an output.
struct OutputCopy {
    from: UnixStream,
    to: Box<dyn Write + Send>,
    end: Arc<AtomicU64>,
    told: PipeReader,
    first: Arc<OnceLock<Instant>>,
    signaller: Signaller,
}

impl OutputCopy {
    fn run(self) {
        let Self {
            mut from, mut to, ..
        } = self;
        let mut buffer = vec![0; CHUNK_BYTES];
        let (mut count, mut broken) = (0, false);
        loop {
            let end = self.end.load(Ordering::Acquire);
            if count >= end {
                return;
            }
            if end == UNTOLD && !is_ready(&from, &self.told) {
                continue;
            }
            let most =
                usize::try_from(end - count).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            match from.read(&mut buffer[..most]) {
                Ok(length) if length > 0 => {
                    // Both outputs may be the first.
                    let _ = self.first.set(Instant::now());
                    count += length as u64;
                    let written = broken
                        || to
                            .write_all(&buffer[..length])
                            .and_then(|()| to.flush())
                            .is_ok();
                    if !written {
                        // As where a pipe's reader is gone. The rest is passed over.
                        broken = true;
                        let _ = self.signaller.signal(SIGPIPE);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The machine is gone, which others find out.
                _ => return,
            }
        }
    }
}

/// Waits until the port can be read, or the end has been told and it can't.
fn is_ready(port: &UnixStream, told: &PipeReader) -> bool {
    let mut both = [
        PollFd::new(port, PollFlags::IN),
        PollFd::new(told, PollFlags::IN),
    ];
    let polled = poll(&mut both, None);
    polled.is_ok() && !both[0].revents().is_empty()
}

/// Copies all of it; gives the number of its bytes.
fn copy_input(mut from: Box<dyn Read + Send>, mut port: UnixStream) -> u64 {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut count = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(length) if length > 0 => {
                if port.write_all(&buffer[..length]).is_err() {
                    return count;
                }
                count += length as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What can't be read any more has ended.
            _ => return count,
        }
    }
}

fn send(orders: &Mutex<UnixStream>, order: &Order) -> io::Result<()> {
    let line = json_line(order)?;
    let mut stream = orders.lock().unwrap_or_else(PoisonError::into_inner);
    stream.write_all(&line)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}
