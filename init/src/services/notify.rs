//! The sockets by which services say how they are doing (sd_notify(3)), one for each that may, in the
//! read-only [`crate::boot::runtime_dir`]: `NOTIFY_SOCKET` is its path.
//!
//! A socket is its service's user's, so that few can send to it; the kernel says which process sent a
//! datagram (SCM_CREDENTIALS, unix(7)), and only the service's own count. Each service has its own, so
//! that none can keep the others from being heard, and what is taken in is bounded in each `TURN`.

pub mod message;

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use message::{MESSAGE_MAX, Message};
use noonmark_contract::config::Service;
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::datagrams;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::{AtFlags, Gid, Mode, Uid, chmodat, chownat};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::process::Pid;
use rustix::time::Timespec;

use super::supervisor::Id;
use crate::boot::runtime_dir::FOLDER;

/// Of how many services one turn takes datagrams in, how many of each, and how soon the next turn may be.
const TURN_SERVICES: usize = 8;
const TURN_DATAGRAMS: usize = 4;
const TURN: Nanos = Nanos::from_millis(100);

/// All services' sockets.
#[derive(Debug)]
pub struct NotifySockets {
    /// Where they are made.
    folder: OwnedFd,
    /// Of all of them; the loop waits on this one.
    epoll: OwnedFd,
    sockets: Vec<(Id, OwnedFd)>,
    again: Option<Raw>,
}

/// What came to a service's socket.
#[derive(Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Whose socket it is.
    pub of: Id,
    /// Who sent it.
    pub sender: Pid,
    /// What it says; none where it says nothing that can be understood.
    pub message: Option<Message>,
}

/// A service's socket, as it finds it.
#[must_use]
pub fn path(service: &Service) -> String {
    format!("{FOLDER}/{}", name(service))
}

fn name(service: &Service) -> String {
    format!("notify.{}", service.name)
}

impl NotifySockets {
    /// None yet; they are made in `folder`, which others need not be able to write to.
    ///
    /// # Errors
    /// As `epoll_create1`.
    pub fn new(folder: OwnedFd) -> Result<Self, Errno> {
        Ok(Self {
            folder,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sockets: Vec::new(),
            // Due at once, which is when the loop begins to wait on it.
            again: Some(Raw(i64::MIN)),
        })
    }

    /// Makes this service's socket where it has none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(&mut self, id: Id, service: &Service) -> Result<(), Errno> {
        if self.sockets.iter().any(|(of, _)| *of == id) {
            return Ok(());
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        set_socket_passcred(&socket, true)?;
        let name = name(service);
        // By way of the folder's descriptor, because the path that others have is read-only.
        let folder = self.folder.as_raw_fd();
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{folder}/{name}"))?;
        bind(&socket, &address)?;
        let (user, group) = (service.user_id(), service.group_id());
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        let name = name.as_str();
        chmodat(
            &self.folder,
            name,
            Mode::RUSR | Mode::WUSR,
            AtFlags::empty(),
        )?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(&self.folder, name, Some(user), Some(group), flags)?;
        let place = EventData::new_u64(self.sockets.len() as u64);
        epoll::add(&self.epoll, &socket, place, EventFlags::IN)?;
        self.sockets.push((id, socket));
        Ok(())
    }

    /// Something has come: takes in as much of it as this turn may.
    pub fn take(&mut self, now: Raw, mut each: impl FnMut(Datagram)) {
        self.again = Some(now + TURN);
        let mut ready = Vec::with_capacity(TURN_SERVICES);
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Those that are not among them come first the next time.
        if epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&at_once)).is_err() {
            return;
        }
        for event in ready {
            let Some((of, socket)) = self.sockets.get(event.data.u64() as usize) else {
                continue;
            };
            for _ in 0..TURN_DATAGRAMS {
                let Some((sender, message)) = receive(socket) else {
                    break;
                };
                each(Datagram {
                    of: *of,
                    sender,
                    message,
                });
            }
        }
    }

    /// The descriptor to wait on once, where it is time to wait again.
    pub fn wait_on(&mut self, now: Raw) -> Option<BorrowedFd<'_>> {
        self.again.take_if(|again| *again <= now)?;
        Some(self.epoll.as_fd())
    }

    /// When [`NotifySockets::wait_on`] gives something.
    #[must_use]
    pub fn deadline(&self) -> Option<Raw> {
        self.again
    }
}

/// The next datagram; one whose sender the kernel doesn't name is of nobody.
fn receive(socket: &OwnedFd) -> Option<(Pid, Option<Message>)> {
    // One more byte than a message has, so that a longer datagram is seen to be none.
    let mut bytes = [0u8; MESSAGE_MAX + 1];
    // Descriptors that come are closed, which is what `BARRIER=1` waits for.
    let (sender, length) = datagrams::receive(socket, &mut bytes)?;
    let message = bytes.get(..length).and_then(Message::parse);
    Some((sender?, message))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    use super::*;

    fn us(name: &str) -> Service {
        Service {
            user: Some(rustix::process::getuid().as_raw()),
            group: Some(rustix::process::getgid().as_raw()),
            ..Service::new(name, vec!["/a".into()])
        }
    }

    fn sockets(folder: &Path, count: usize) -> NotifySockets {
        let folder = fs::File::open(folder).unwrap();
        let mut sockets = NotifySockets::new(folder.into()).unwrap();
        for place in 0..count {
            for _ in 0..2 {
                sockets.open(Id(place), &us(&place.to_string())).unwrap();
            }
        }
        sockets
    }

    fn send(folder: &Path, name: &str, text: &[u8]) {
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        // The kernel's own limit comes first where a test sends much.
        let _ = socket.send_to(text, folder.join(format!("notify.{name}")));
    }

    fn taken(sockets: &mut NotifySockets) -> Vec<Datagram> {
        let mut taken = Vec::new();
        sockets.take(Raw(0), |datagram| taken.push(datagram));
        taken
    }

    #[test]
    fn what_is_said_comes_with_the_process_that_said_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut sockets = sockets(folder.path(), 2);
        let mode = fs::metadata(folder.path().join("notify.1")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        assert!(taken(&mut sockets).is_empty());
        send(folder.path(), "1", b"READY=1");
        send(folder.path(), "1", &[b'x'; MESSAGE_MAX + 100]);
        let taken = taken(&mut sockets);
        assert_eq!(taken.len(), 2);
        assert!(taken.iter().all(|datagram| datagram.of == Id(1)));
        let us = rustix::process::getpid();
        assert!(taken.iter().all(|datagram| datagram.sender == us));
        assert!(taken[0].message.as_ref().is_some_and(|said| said.ready));
        assert_eq!(taken[1].message, None);
    }

    #[test]
    fn a_flood_is_taken_in_turns_and_keeps_nobody_else_from_being_heard() {
        let folder = tempfile::tempdir().unwrap();
        let mut sockets = sockets(folder.path(), TURN_SERVICES + 4);
        for _ in 0..20 {
            for place in 0..TURN_SERVICES + 3 {
                send(folder.path(), &place.to_string(), b"STATUS=loud");
            }
        }
        let last = TURN_SERVICES + 3;
        send(folder.path(), &last.to_string(), b"READY=1");
        let first = taken(&mut sockets);
        assert!(first.len() <= TURN_SERVICES * TURN_DATAGRAMS, "{first:?}");
        let second = taken(&mut sockets);
        let heard = |taken: &[Datagram]| taken.iter().any(|datagram| datagram.of == Id(last));
        assert!(heard(&first) || heard(&second));
    }

    #[test]
    fn it_is_waited_on_again_after_each_turn() {
        let folder = tempfile::tempdir().unwrap();
        let mut sockets = sockets(folder.path(), 1);
        assert!(sockets.wait_on(Raw(0)).is_some());
        assert!(sockets.wait_on(Raw(0)).is_none());
        sockets.take(Raw(0), |_| {});
        assert_eq!(sockets.deadline(), Some(Raw(0) + TURN));
        assert!(sockets.wait_on(Raw(0)).is_none());
        assert!(sockets.wait_on(Raw(0) + TURN).is_some());
    }
}
