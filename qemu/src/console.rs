//! What a machine's console and QEMU itself print: the last of it in memory, all of it in a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// How much of the output's end is remembered.
const TAIL_BYTES_MAX: usize = 64 * 1024;

/// How much of the output goes to the log file; a guest can print for ever.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Takes the output as it comes.
pub type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// One output stream, read by a thread of its own so that its writer never waits.
#[derive(Debug)]
pub struct Console {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tail: VecDeque<u8>,
    sink: Option<Sink>,
}

impl Console {
    /// Reads `stream` to its end, into memory and to `log` where one is given.
    ///
    /// # Errors
    /// Where the log or the thread cannot be made.
    pub fn capture(stream: impl Read + Send + 'static, log: Option<&Path>) -> io::Result<Self> {
        let log = log.map(File::create).transpose()?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let reader = thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || theirs.read(stream, log))?;
        Ok(Self {
            shared,
            reader: Some(reader),
        })
    }

    /// The last lines, at most `count`, without control characters and escape sequences.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let skipped = lines.len().saturating_sub(count);
        lines[skipped..].iter().map(|&l| l.to_owned()).collect()
    }

    /// Whether this occurs in what is remembered.
    #[must_use]
    pub fn contains(&self, what: &str) -> bool {
        self.text().contains(what)
    }

    /// Hands `sink` what is remembered, then all that comes, in place of an earlier one. It
    /// runs on the reading thread and must not block for long.
    pub fn follow(&self, mut sink: Sink) {
        let mut state = self.shared.lock();
        let (front, back) = state.tail.as_slices();
        sink(front);
        sink(back);
        state.sink = Some(sink);
    }

    /// Waits for the stream's end; to be called once its writer is gone.
    pub fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            // A panic of the reader loses output, which must not hide the machine's own failure.
            let _ = reader.join();
        }
    }

    fn text(&self) -> String {
        let mut state = self.shared.lock();
        plain(&String::from_utf8_lossy(state.tail.make_contiguous()))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, mut stream: impl Read, mut log: Option<File>) {
        let mut buffer = [0; 4096];
        let mut log_left = LOG_BYTES_MAX;
        loop {
            let bytes = match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => &buffer[..count],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            if let Some(file) = &mut log {
                log_left = log_left.saturating_sub(bytes.len() as u64);
                // A full disk or a spent allowance ends the log, not the machine.
                if log_left == 0 || file.write_all(bytes).is_err() {
                    log = None;
                }
            }
            let mut state = self.lock();
            state.tail.extend(bytes);
            let excess = state.tail.len().saturating_sub(TAIL_BYTES_MAX);
            state.tail.drain(..excess);
            if let Some(sink) = &mut state.sink {
                sink(bytes);
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The text without what would move a terminal's cursor or change its colours.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => {
                // CSI: parameters, then one final byte `@`..=`~` (ECMA-48, 5.4). Any other escape
                // is two characters.
                if chars.next() == Some('[') {
                    let _ = chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\n' | '\t' => out.push(char),
            _ if char.is_control() => {}
            _ => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::mpsc;

    use super::*;

    fn captured(bytes: Vec<u8>, log: Option<&Path>) -> Console {
        let mut console = Console::capture(Cursor::new(bytes), log).unwrap();
        console.finish();
        console
    }

    #[test]
    fn the_tail_is_the_last_lines_in_plain_text() {
        let console = captured(
            b"one\r\n\x1b[2J\x1b[01;01Htwo\r\n\r\n\x1bcthree \xff\r\n".to_vec(),
            None,
        );
        assert_eq!(console.tail(2), ["two", "three \u{fffd}"]);
        assert_eq!(console.tail(10).len(), 3);
        assert!(console.contains("one") && !console.contains("four"));
    }

    #[test]
    fn an_endless_printer_costs_bounded_memory() {
        let console = captured(vec![b'x'; 10 * TAIL_BYTES_MAX], None);
        assert_eq!(console.shared.lock().tail.len(), TAIL_BYTES_MAX);
    }

    #[test]
    fn all_of_it_goes_to_the_log_and_to_a_sink() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("console.log");
        let console = captured(b"hello\n".to_vec(), Some(&log));
        assert_eq!(std::fs::read(&log).unwrap(), b"hello\n");
        let (sender, receiver) = mpsc::channel();
        console.follow(Box::new(move |bytes| sender.send(bytes.to_vec()).unwrap()));
        let seen: Vec<u8> = receiver.try_iter().flatten().collect();
        assert_eq!(seen, b"hello\n");
    }
}
