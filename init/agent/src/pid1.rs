//! The socket to PID 1: its news, and what it is asked to do.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use noonmark_contract::agent::{ANSWER_MAX, Answer, Ask, Question};
use noonmark_contract::units::Nanos;
use noonmark_linux::clocks;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

/// How long PID 1 may take: it has shorter deadlines of its own for whatever it does.
const ANSWER_DEADLINE: Duration = Duration::from_secs(180);

/// PID 1, as it can be asked.
#[derive(Debug)]
pub struct Pid1 {
    socket: OwnedFd,
    asked: u32,
    frozen: bool,
    /// A port that came while something else was waited for.
    port: Option<File>,
}

impl AsFd for Pid1 {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Pid1 {
    /// Says that the agent is there.
    ///
    /// # Errors
    /// Standard input is no such socket.
    pub fn open() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        send(&socket, &[], SendFlags::NOSIGNAL)?;
        Ok(Self {
            socket,
            // An answer to one that has ended is none to the next one.
            asked: std::process::id().rotate_left(16),
            frozen: false,
            port: None,
        })
    }

    /// Takes in what PID 1 has said since; gives a port that is new.
    ///
    /// # Errors
    /// The socket is of no more use.
    pub fn hear(&mut self) -> io::Result<Option<File>> {
        // Answers are to questions that nobody waits for any more.
        while self.receive()?.is_some() {}
        Ok(self.port.take())
    }

    /// Whether the guest is frozen.
    pub fn is_frozen(&mut self) -> bool {
        // Without PID 1 it stays as it was; the loop finds out.
        while let Ok(Some(_)) = self.receive() {}
        self.frozen
    }

    /// The next answer to a question; everything else is taken in.
    fn receive(&mut self) -> io::Result<Option<Answer>> {
        loop {
            let mut bytes = [0u8; ANSWER_MAX + 1];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let received = match recvmsg(&self.socket, &mut parts, &mut control, flags) {
                Ok(received) => received,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            };
            let mut port = None;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    port = descriptors.map(File::from).next().or(port);
                }
            }
            let bytes = bytes.get(..received.bytes).unwrap_or_default();
            match Answer::from_bytes(bytes) {
                Some(Answer::Port) => self.port = port.or(self.port.take()),
                Some(Answer::Frozen(frozen)) => self.frozen = frozen,
                Some(answer) => return Ok(Some(answer)),
                None => {}
            }
        }
    }

    /// Has PID 1 do something, and waits for its answer: how many it was done to.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn ask(&mut self, ask: Ask) -> Result<u32, String> {
        self.asked = self.asked.wrapping_add(1);
        let question = Question {
            number: self.asked,
            ask,
        };
        send(&self.socket, &question.to_bytes(), SendFlags::NOSIGNAL)
            .map_err(|errno| format!("PID 1 can't be asked: {errno}"))?;
        let deadline = Instant::now() + ANSWER_DEADLINE;
        loop {
            let heard = self.receive();
            match heard.map_err(|error| format!("PID 1 can't be heard: {error}"))? {
                Some(Answer::Done { number, count }) if number == self.asked => {
                    return Ok(count);
                }
                Some(Answer::Failed { number, why }) if number == self.asked => {
                    return Err(why);
                }
                Some(_) => {}
                None => self.wait(deadline)?,
            }
        }
    }

    fn wait(&self, deadline: Instant) -> Result<(), String> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("PID 1 did not answer within {ANSWER_DEADLINE:?}"));
        }
        let left = Nanos(i64::try_from(left.as_nanos()).unwrap_or(i64::MAX));
        let mut waited = [PollFd::new(&self.socket, PollFlags::IN)];
        // EINTR is the only failure of a valid call, and the caller comes back.
        let _ = poll(&mut waited, Some(&clocks::timespec(left)));
        Ok(())
    }
}
