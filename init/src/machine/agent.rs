//! The guest agent as PID 1 sees it: the port that it is handed, and the socket by which it asks for what
//! takes a right.
//!
//! Whoever can write to the port can shut the machine down and freeze it, so only the one program that it
//! was handed to may ask: the socket has no name, and the kernel says which process a datagram is from
//! (SCM_CREDENTIALS, unix(7)). One question is taken at a time, and the next some time after it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use noonmark_contract::agent::{Answer, Ask, PORT, Question};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::datagrams;
use noonmark_linux::ports::{Port, PortError};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use rustix::process::Pid;
use thiserror::Error;

/// How many datagrams one turn takes in, and how soon the next turn may be.
const BATCH: u32 = 4;
const TURN: Nanos = Nanos::from_millis(20);

/// A question is as long; a longer datagram is none.
const QUESTION_MAX: usize = 16;

/// Why there is no socket.
#[derive(Debug, Error)]
#[error("the guest agent's socket: {what}: {errno}; nobody answers on the port {PORT}")]
pub struct AgentError {
    what: &'static str,
    errno: Errno,
}

/// PID 1's end of the socket, and the port.
#[derive(Debug)]
pub struct Agent {
    socket: OwnedFd,
    port: Option<Port>,
    /// Its process, once it has said that it is there.
    process: Option<Pid>,
    again: Option<Raw>,
    /// The question that is not answered yet, and since when it is asked.
    open: Option<(Question, Raw)>,
}

impl Agent {
    /// Opens the socket; the agent's end comes second.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn open() -> Result<(Self, OwnedFd), AgentError> {
        let failed = |what| move |errno| AgentError { what, errno };
        let flags = SocketFlags::CLOEXEC;
        let (socket, agent_end) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(failed("opening a pair"))?;
        set_socket_passcred(&socket, true).map_err(failed("asking for the senders"))?;
        let agent = Self {
            socket,
            port: None,
            process: None,
            // Due at once, which is when the loop begins to wait on it.
            again: Some(Raw(i64::MIN)),
            open: None,
        };
        Ok((agent, agent_end))
    }

    /// Looks for the port after something was plugged in or out; whether there is one now.
    ///
    /// # Errors
    /// [`PortError`] where it is there but can't be opened.
    pub fn rescan(&mut self) -> Result<bool, PortError> {
        if self.port.as_ref().is_some_and(|port| !port.exists()) {
            self.port = None;
        }
        if self.port.is_none() {
            self.port = Port::open(PORT)?;
            if self.process.is_some() {
                self.hand_over();
            }
        }
        Ok(self.port.is_some())
    }

    /// Takes in what the agent, which is process `allowed`, has sent; gives the question that is open from
    /// now on. `frozen` is what it is told when it has just come.
    pub fn take(&mut self, allowed: Option<Pid>, frozen: bool, now: Raw) -> Option<Ask> {
        self.again = Some(now + TURN);
        for _ in 0..BATCH {
            let mut bytes = [0u8; QUESTION_MAX];
            let (sender, length) = datagrams::receive(&self.socket, &mut bytes)?;
            if sender.is_none() || sender != allowed {
                continue;
            }
            if length == 0 {
                self.process = sender;
                self.hand_over();
                self.tell(&Answer::Frozen(frozen));
            } else if let Some(question) = Question::from_bytes(&bytes[..length.min(QUESTION_MAX)])
            {
                self.open = Some((question, now));
                return Some(question.ask);
            }
        }
        None
    }

    /// The question that is not answered yet, and since when it is asked.
    #[must_use]
    pub fn asked(&self) -> Option<(Ask, Raw)> {
        self.open.map(|(question, since)| (question.ask, since))
    }

    /// Answers the open question: to how many of whatever it is about it was done, or why not.
    pub fn answer(&mut self, outcome: Result<u32, String>) {
        if let Some((Question { number, .. }, _)) = self.open.take() {
            self.tell(&match outcome {
                Ok(count) => Answer::Done { number, count },
                Err(why) => Answer::Failed { number, why },
            });
        }
    }

    /// Says whether the guest is frozen.
    pub fn tell_frozen(&self, frozen: bool) {
        self.tell(&Answer::Frozen(frozen));
    }

    /// The descriptor to wait on once, where it is time to wait again.
    pub fn wait_on(&mut self, now: Raw) -> Option<BorrowedFd<'_>> {
        if self.open.is_some() {
            return None;
        }
        self.again.take_if(|again| *again <= now)?;
        Some(self.socket.as_fd())
    }

    /// When [`Agent::wait_on`] gives something, or the open question is to be looked at again.
    #[must_use]
    pub fn deadline(&self, now: Raw) -> Option<Raw> {
        match self.open {
            Some(_) => Some(now + TURN),
            None => self.again,
        }
    }

    fn hand_over(&self) {
        if let Some(port) = &self.port {
            let descriptors = [port.descriptor().as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            self.send(&Answer::Port, &mut control);
        }
    }

    fn tell(&self, answer: &Answer) {
        self.send(answer, &mut SendAncillaryBuffer::default());
    }

    fn send(&self, answer: &Answer, control: &mut SendAncillaryBuffer<'_, '_, '_>) {
        let bytes = answer.to_bytes();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // An agent that doesn't listen has asked for nothing that it waits for.
        let _ = sendmsg(&self.socket, &[IoSlice::new(&bytes)], control, flags);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    const NOW: Raw = Raw(1_000_000_000);

    fn pair() -> (Agent, UnixDatagram) {
        let (agent, end) = Agent::open().unwrap();
        let end = UnixDatagram::from(end);
        end.set_nonblocking(true).unwrap();
        (agent, end)
    }

    fn us() -> Option<Pid> {
        Some(rustix::process::getpid())
    }

    fn heard(end: &UnixDatagram) -> Option<Answer> {
        let mut bytes = [0; 500];
        let count = end.recv(&mut bytes).ok()?;
        Answer::from_bytes(&bytes[..count])
    }

    fn question(number: u32, ask: Ask) -> [u8; 5] {
        Question { number, ask }.to_bytes()
    }

    #[test]
    fn who_has_just_come_is_told_how_things_stand_and_then_asks() {
        let (mut agent, end) = pair();
        end.send(&[]).unwrap();
        end.send(&question(7, Ask::Freeze)).unwrap();
        assert_eq!(agent.take(us(), true, NOW), Some(Ask::Freeze));
        assert_eq!(heard(&end), Some(Answer::Frozen(true)));
        assert_eq!(agent.asked(), Some((Ask::Freeze, NOW)));
        agent.answer(Ok(3));
        let (number, count) = (7, 3);
        assert_eq!(heard(&end), Some(Answer::Done { number, count }));
        assert_eq!(agent.asked(), None);
        agent.answer(Ok(3));
        assert_eq!(heard(&end), None);
    }

    #[test]
    fn nobody_else_is_heard() {
        let (mut agent, end) = pair();
        end.send(&question(1, Ask::Freeze)).unwrap();
        assert_eq!(agent.take(Some(Pid::INIT), false, NOW), None);
        end.send(&question(1, Ask::Freeze)).unwrap();
        assert_eq!(agent.take(None, false, NOW), None);
        for nonsense in [&b"x"[..], &[1; 4], &[1; 6], &[1; 100], &[9, 0, 0, 0, 0]] {
            end.send(nonsense).unwrap();
            assert_eq!(agent.take(us(), false, NOW), None, "{nonsense:?}");
        }
    }

    #[test]
    fn one_question_is_taken_at_a_time_and_the_next_a_moment_later() {
        let (mut agent, end) = pair();
        assert!(agent.wait_on(NOW).is_some());
        for number in 0..3 {
            end.send(&question(number, Ask::Verify)).unwrap();
        }
        assert_eq!(agent.take(us(), false, NOW), Some(Ask::Verify));
        assert!(agent.wait_on(NOW + TURN + TURN).is_none(), "one is open");
        agent.answer(Err("no".into()));
        assert!(agent.wait_on(NOW).is_none(), "too soon");
        assert_eq!(agent.deadline(NOW), Some(NOW + TURN));
        assert!(agent.wait_on(NOW + TURN).is_some());
        assert!(
            agent.wait_on(NOW + TURN).is_none(),
            "it is waited on already"
        );
    }
}
