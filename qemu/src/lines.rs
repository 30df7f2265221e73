//! Lines out of a byte stream that may hold anything: bounded in length, and on a deadline.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The longest line that is kept; PID 1's records are a few KiB.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Bytes taken from a socket at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Bytes in, lines out, with nothing else of a stream known.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    partial: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
    /// Inside a line that is already too long, up to its end.
    skipping: bool,
    oversized: u64,
}

impl LineBuffer {
    /// Takes in what was read.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.append(&bytes[..end]);
            let line = std::mem::take(&mut self.partial);
            if !std::mem::take(&mut self.skipping) && !line.is_empty() {
                self.lines.push_back(line);
            }
            bytes = &bytes[end + 1..];
        }
        self.append(bytes);
    }

    /// The next whole line, without its end.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        self.lines.pop_front()
    }

    /// Lines that were dropped because they were too long.
    pub(crate) fn oversized(&self) -> u64 {
        self.oversized
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        if self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            self.partial = Vec::new();
            self.skipping = true;
            self.oversized += 1;
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

/// Reads lines from a socket.
#[derive(Debug)]
pub struct LineReader {
    stream: UnixStream,
    buffer: LineBuffer,
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// None came before the deadline.
    #[error("nothing came before the deadline")]
    Timeout,
    /// The other end closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The system refused.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
}

impl LineReader {
    /// A reader of this socket.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: LineBuffer::default(),
        }
    }

    /// The socket, to write to.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Lines that were dropped because they were too long.
    #[must_use]
    pub fn oversized(&self) -> u64 {
        self.buffer.oversized()
    }

    /// The next line that is not empty, or why there is none.
    ///
    /// # Errors
    /// At the deadline, at the stream's end, and where the system refuses.
    pub fn next(&mut self, deadline: Instant) -> Result<Vec<u8>, ReadError> {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            if let Some(line) = self.buffer.pop() {
                return Ok(line);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ReadError::Timeout);
            }
            // Zero would mean for ever, and the kernel rounds up to a tick of its own anyway.
            self.stream
                .set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
            match (&self.stream).read(&mut chunk) {
                Ok(0) => return Err(ReadError::Closed),
                Ok(count) => self.buffer.push(&chunk[..count]),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {}
                    // The other end died with something of ours unread.
                    io::ErrorKind::ConnectionReset => return Err(ReadError::Closed),
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn drain(buffer: &mut LineBuffer) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| buffer.pop()).collect()
    }

    #[test]
    fn a_line_that_is_too_long_is_counted_and_the_next_one_is_whole() {
        let mut buffer = LineBuffer::default();
        for _ in 0..5 {
            buffer.push(&vec![b'x'; LINE_BYTES_MAX / 2]);
        }
        assert!(buffer.partial.is_empty(), "an endless line is not kept");
        buffer.push(b"yy\nnext\n");
        assert_eq!(drain(&mut buffer), [b"next"]);
        assert_eq!(buffer.oversized(), 1);
    }

    #[test]
    fn a_reader_ends_on_deadline_and_on_close() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut reader = LineReader::new(ours);
        theirs.write_all(b"half").unwrap();
        let early = Instant::now() + Duration::from_millis(20);
        assert!(matches!(reader.next(early), Err(ReadError::Timeout)));
        theirs.write_all(b" whole\nrest").unwrap();
        drop(theirs);
        let late = Instant::now() + Duration::from_secs(30);
        assert_eq!(reader.next(late).unwrap(), b"half whole");
        assert!(matches!(reader.next(late), Err(ReadError::Closed)));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_were_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..400),
            cuts in proptest::collection::vec(1_usize..50, 1..20),
        ) {
            let mut whole = LineBuffer::default();
            whole.push(&bytes);
            let mut pieces = LineBuffer::default();
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().unwrap());
                pieces.push(&rest[..cut]);
                rest = &rest[cut..];
            }
            let expected: Vec<Vec<u8>> = drain(&mut whole);
            prop_assert!(expected.iter().all(|l| !l.is_empty() && !l.contains(&b'\n')));
            prop_assert_eq!(drain(&mut pieces), expected);
        }
    }
}
