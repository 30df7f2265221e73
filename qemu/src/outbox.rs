//! Lines that wait for a socket to take them: bounded, whole lines only.

use std::collections::VecDeque;
use std::io::{self, Write};

/// What waits to be written.
#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: VecDeque<u8>,
    max: usize,
}

impl Outbox {
    /// An empty one that holds at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            max,
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds a line, or nothing and returns false where it would not fit.
    pub(crate) fn push(&mut self, line: &[u8]) -> bool {
        let fits = self.bytes.len() + line.len() <= self.max;
        if fits {
            self.bytes.extend(line);
        }
        fits
    }

    /// Writes as much as the socket takes now.
    pub(crate) fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while !self.bytes.is_empty() {
            match stream.write(self.bytes.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.bytes.drain(..count)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_does_not_fit_is_left_out_whole() {
        let mut outbox = Outbox::new(8);
        assert!(outbox.push(b"12345\n"));
        assert!(!outbox.push(b"678\n"));
        assert!(outbox.push(b"9\n"));
        let mut written = Vec::new();
        outbox.flush(&mut written).unwrap();
        assert_eq!(written, b"12345\n9\n");
        assert!(outbox.is_empty());
    }
}
