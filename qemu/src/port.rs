//! Ports as sockets: connecting to one, and the JSON Lines clients of the status and test ports.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use noonmark_contract::record::{Command, Record};
use noonmark_contract::testport::{Answer, Query, Request};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::guest_json::from_guest;
use crate::lines::{LineReader, ReadError};

/// How long a write may take before the other end counts as stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Why a port cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// There is nothing.
    #[error("there is no socket at {}; is the machine still running?", .0.display())]
    NotFound(PathBuf),
    /// There is something else.
    #[error(
        "{} is not a socket; name the Unix socket of QEMU's `-chardev socket,server=on,path=…`",
        .0.display()
    )]
    NotASocket(PathBuf),
    /// Nobody listens.
    #[error(
        "nobody listens on {}: the QEMU that made this socket has ended, or was not told \
         `server=on`", .0.display()
    )]
    Refused(PathBuf),
    /// Others wait in the queue already.
    #[error("{} serves somebody else: QEMU takes one client at a time", .0.display())]
    Busy(PathBuf),
    /// The system refused.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing could be sent.
    #[error("cannot send to the port: {0}")]
    Write(io::Error),
    /// Nothing came.
    #[error("reading from the port: {0}")]
    Read(#[from] ReadError),
}

/// Connects to a Unix socket without waiting for its server to take the connection.
///
/// # Errors
/// Each in words that name the path.
pub(crate) fn connect(path: &Path) -> Result<UnixStream, PortError> {
    let other = |source: io::Error| PortError::Connect {
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(PortError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(PortError::NotFound(path.to_owned()));
        }
        Err(error) => return Err(other(error)),
    }
    let address = SocketAddrUnix::new(path).map_err(|error| other(error.into()))?;
    // Non-blocking, because a server that never accepts would hold a blocking connect for ever.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| other(error.into()))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(rustix::io::Errno::CONNREFUSED) => return Err(PortError::Refused(path.to_owned())),
        Err(rustix::io::Errno::AGAIN) => return Err(PortError::Busy(path.to_owned())),
        Err(error) => return Err(other(error.into())),
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false).map_err(other)?;
    Ok(stream)
}

/// JSON Lines both ways, garbage from the other side tolerated and counted.
#[derive(Debug)]
struct JsonPort {
    lines: LineReader,
    garbage: u64,
}

impl JsonPort {
    fn new(stream: UnixStream) -> Result<Self, PortError> {
        stream
            .set_write_timeout(Some(WRITE_DEADLINE))
            .map_err(PortError::Write)?;
        Ok(Self {
            lines: LineReader::new(stream),
            garbage: 0,
        })
    }

    fn next<T: DeserializeOwned>(&mut self, deadline: Instant) -> Result<T, PortError> {
        loop {
            let line = self.lines.next(deadline)?;
            match from_guest(&line) {
                Ok(message) => return Ok(message),
                Err(_) => self.garbage += 1,
            }
        }
    }

    fn send(&self, message: &impl Serialize) -> Result<(), PortError> {
        let line = json_line(message).map_err(PortError::Write)?;
        self.lines
            .stream()
            .write_all(&line)
            .map_err(PortError::Write)
    }

    fn garbage(&self) -> u64 {
        self.garbage + self.lines.oversized()
    }
}

/// One message as a line.
pub(crate) fn json_line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// A client of a status port: a hub's socket, or a QEMU's own.
#[derive(Debug)]
pub struct StatusPort(JsonPort);

impl StatusPort {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// Where there is none, or nobody serves it.
    pub fn connect(path: &Path) -> Result<Self, PortError> {
        JsonPort::new(connect(path)?).map(Self)
    }

    /// The next record. Lines that are none are passed over and counted.
    ///
    /// # Errors
    /// At the deadline, and where the connection ends.
    pub fn next(&mut self, deadline: Instant) -> Result<Record, PortError> {
        self.0.next(deadline)
    }

    /// Sends a command.
    ///
    /// # Errors
    /// Where the other side is gone or stuck.
    pub fn send(&self, command: &Command) -> Result<(), PortError> {
        self.0.send(command)
    }

    /// Lines so far that were no record.
    #[must_use]
    pub fn garbage(&self) -> u64 {
        self.0.garbage()
    }
}

/// The harness's end of the test port.
#[derive(Debug)]
pub struct TestPort(JsonPort);

impl TestPort {
    /// A client on a connected socket.
    ///
    /// # Errors
    /// Where the socket takes no deadline.
    pub fn new(stream: UnixStream) -> Result<Self, PortError> {
        JsonPort::new(stream).map(Self)
    }

    /// The next answer. Lines that are none are passed over and counted.
    ///
    /// # Errors
    /// At the deadline, and where the connection ends.
    pub fn next(&mut self, deadline: Instant) -> Result<Answer, PortError> {
        self.0.next(deadline)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Where the other side is gone or stuck.
    pub fn send(&self, request: &Request) -> Result<(), PortError> {
        self.0.send(request)
    }

    /// Sends a question.
    ///
    /// # Errors
    /// As [`TestPort::send`].
    pub fn ask(&self, query: &Query) -> Result<(), PortError> {
        self.0.send(query)
    }

    /// Lines so far that were no answer.
    #[must_use]
    pub fn garbage(&self) -> u64 {
        self.0.garbage()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use noonmark_contract::record::Topic;
    use noonmark_contract::testport::Outcome;

    use super::*;

    #[test]
    fn each_kind_of_bad_path_has_its_own_words() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);

        let error = StatusPort::connect(&at("absent")).unwrap_err();
        assert!(matches!(error, PortError::NotFound(_)), "{error}");
        fs::write(at("file"), b"").unwrap();
        let error = StatusPort::connect(&at("file")).unwrap_err();
        assert!(matches!(error, PortError::NotASocket(_)), "{error}");
        assert!(error.to_string().contains("file"));
        drop(UnixListener::bind(at("dead")).unwrap());
        let error = StatusPort::connect(&at("dead")).unwrap_err();
        assert!(matches!(error, PortError::Refused(_)), "{error}");
    }

    #[test]
    fn a_server_that_never_accepts_does_not_hold_its_clients() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("full");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match connect(&path) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 100_000, "the queue has no end");
        };
        // Either the server's queue or this process's files are used up; neither blocks.
        assert!(matches!(
            error,
            PortError::Busy(_) | PortError::Connect { .. }
        ));
    }

    #[test]
    fn garbage_between_answers_is_counted_and_passed_over() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut port = TestPort::new(ours).unwrap();
        (&theirs)
            .write_all(b"\x00\xff\nnot json\n{\"v\":1,\"id\":0,\"ready\":null}\n")
            .unwrap();
        let answer = port.next(Instant::now() + Duration::from_secs(30)).unwrap();
        assert_eq!(answer.outcome, Outcome::Ready);
        assert_eq!(port.garbage(), 2);
    }

    #[test]
    fn a_command_goes_out_as_the_line_that_the_design_shows() {
        let line = json_line(&Command::Get(Topic::Status)).unwrap();
        assert_eq!(line, b"{\"get\":\"status\"}\n");
    }
}
