//! Copies between a command's standard streams and their ports.
//!
//! A port that the host doesn't read holds up the copy, and so the command, as a pipe does. What ends a
//! copy is told by others: the host says after how many bytes the input ends, and output ends with the
//! command, also where something that it has started still has the pipe open.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use noonmark_contract::run::STREAM_PORTS;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ioctl_fionread};

/// What a port takes at once (drivers/char/virtio_console.c, `port_fops_write`).
const CHUNK_BYTES: usize = 32 * 1024;

/// No number of bytes yet.
const UNTOLD: u64 = u64::MAX;

/// The ports of the three streams.
#[derive(Debug)]
pub struct Ports {
    input: File,
    output: File,
    errors: File,
}

/// After how many bytes the input ends, once the host has told.
#[derive(Debug)]
pub struct InputEnd {
    bytes: AtomicU64,
    told: PipeReader,
    untold: Mutex<Option<PipeWriter>>,
}

impl InputEnd {
    /// One that is not told yet.
    ///
    /// # Errors
    /// There is no pipe to be had.
    pub fn new() -> io::Result<Self> {
        let (told, untold) = io::pipe()?;
        Ok(Self {
            bytes: AtomicU64::new(UNTOLD),
            told,
            untold: Mutex::new(Some(untold)),
        })
    }

    /// The first number counts.
    pub fn tell(&self, bytes: u64) {
        if let Ok(mut untold) = self.untold.lock()
            && untold.is_some()
        {
            self.bytes.store(bytes, Ordering::Release);
            *untold = None;
        }
    }

    pub fn is_told(&self) -> bool {
        self.bytes.load(Ordering::Acquire) != UNTOLD
    }
}

impl Ports {
    /// Those of this machine.
    ///
    /// # Errors
    /// What `open` says of one.
    pub fn open(open: impl Fn(&str) -> io::Result<File>) -> io::Result<Self> {
        let [input, output, errors] = STREAM_PORTS;
        Ok(Self {
            input: open(input)?,
            output: open(output)?,
            errors: open(errors)?,
        })
    }

    /// Gives a command its input, and passes over what it doesn't take.
    pub fn feed(&self, stdin: Option<ChildStdin>, end: &InputEnd, ended: &PipeReader) {
        let mut stdin = stdin.filter(|stdin| without_waiting(stdin).is_ok());
        let mut buffer = [0; CHUNK_BYTES];
        let mut count = 0;
        loop {
            let bytes = end.bytes.load(Ordering::Acquire);
            if count >= bytes {
                return;
            }
            // Once it is told, its pipe is always ready.
            let ready = match bytes {
                UNTOLD => wait(&self.input, PollFlags::IN, &end.told),
                _ => Ready::First,
            };
            if ready == Ready::Second {
                continue;
            }
            let most =
                usize::try_from(bytes - count).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            match (&self.input).read(&mut buffer[..most]) {
                Ok(length) if length > 0 => {
                    count += length as u64;
                    if !stdin
                        .as_mut()
                        .is_some_and(|stdin| give(stdin, &buffer[..length], ended))
                    {
                        stdin = None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The host is gone.
                _ => return,
            }
        }
    }

    /// Takes a command's standard output; gives the number of its bytes.
    pub fn drain_output(&self, stdout: Option<ChildStdout>, ended: &PipeReader) -> u64 {
        stdout.map_or(0, |stdout| drain(stdout, ended, &self.output))
    }

    /// Takes its error output in the same way.
    pub fn drain_errors(&self, stderr: Option<ChildStderr>, ended: &PipeReader) -> u64 {
        stderr.map_or(0, |stderr| drain(stderr, ended, &self.errors))
    }
}

/// Which of two is ready, the first before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    First,
    Second,
}

fn wait(first: impl AsFd, events: PollFlags, second: impl AsFd) -> Ready {
    loop {
        let mut both = [
            PollFd::new(&first, events),
            PollFd::new(&second, PollFlags::IN),
        ];
        match poll(&mut both, None) {
            Ok(_) if !both[0].revents().is_empty() => return Ready::First,
            Ok(_) if !both[1].revents().is_empty() => return Ready::Second,
            Ok(_) | Err(Errno::INTR) => {}
            // Out of memory; a read or write of the first says more.
            Err(_) => return Ready::First,
        }
    }
}

fn without_waiting(pipe: &ChildStdin) -> io::Result<()> {
    let flags = fcntl_getfl(pipe)?;
    Ok(fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?)
}

/// Writes all of it; false where the command takes no more.
fn give(stdin: &mut ChildStdin, mut bytes: &[u8], ended: &PipeReader) -> bool {
    while !bytes.is_empty() {
        match stdin.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if wait(&*stdin, PollFlags::OUT, ended) == Ready::Second {
                    return false;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}

fn drain(mut from: impl io::Read + AsFd, ended: &PipeReader, mut port: &File) -> u64 {
    let mut buffer = [0; CHUNK_BYTES];
    let mut count = 0;
    // Once the command has ended: what it has left in the pipe.
    let mut left = None;
    while left != Some(0) {
        if left.is_none() && wait(&from, PollFlags::IN, ended) == Ready::Second {
            left = Some(ioctl_fionread(&from).unwrap_or(0));
            continue;
        }
        let most = left.map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES as u64) as usize);
        match from.read(&mut buffer[..most]) {
            Ok(length) if length > 0 => {
                if port.write_all(&buffer[..length]).is_err() {
                    break;
                }
                count += length as u64;
                left = left.map(|left| left - length as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;

    use super::*;

    /// The host's end of a stream, and the guest's as it stands in for a port.
    fn port() -> (File, File) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let file =
            |stream: std::os::unix::net::UnixStream| File::from(std::os::fd::OwnedFd::from(stream));
        (file(ours), file(theirs))
    }

    #[test]
    fn input_ends_after_the_bytes_that_were_told_and_the_next_stays_in_the_port() {
        let (mut host, input) = port();
        let (_, output) = port();
        let (_, errors) = port();
        let ports = Ports {
            input,
            output,
            errors,
        };
        let mut cat = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ended, running) = io::pipe().unwrap();
        let end = InputEnd::new().unwrap();
        host.write_all(b"one\0two").unwrap();
        let mut taken = Vec::new();
        thread::scope(|scope| {
            let stdin = cat.stdin.take();
            scope.spawn(|| ports.feed(stdin, &end, &ended));
            end.tell(4);
            cat.stdout.take().unwrap().read_to_end(&mut taken).unwrap();
        });
        cat.wait().unwrap();
        drop(running);
        assert_eq!(taken, b"one\0");
        // A command that takes none of it doesn't hold it up.
        let end = InputEnd::new().unwrap();
        end.tell(3);
        ports.feed(None, &end, &ended);
        host.write_all(b"x").unwrap();
        let mut next = [0; 8];
        let count = (&ports.input).read(&mut next).unwrap();
        assert_eq!(&next[..count], b"x");
    }

    #[test]
    fn output_ends_with_the_command_though_its_pipe_stays_open() {
        let (mut host, port) = port();
        let (ended, running) = io::pipe().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "printf before; sleep 60 & echo $!"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        child.wait().unwrap();
        drop(running);
        let count = drain(stdout, &ended, &port);
        drop(port);
        let mut written = String::new();
        host.read_to_string(&mut written).unwrap();
        assert_eq!(written.len() as u64, count);
        let sleeper = written.strip_prefix("before").unwrap().trim();
        let killed = Command::new("kill").arg(sleeper).status().unwrap();
        assert!(killed.success(), "{written}");
    }
}
