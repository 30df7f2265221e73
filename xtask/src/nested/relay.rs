//! Hands on the status port of the guest that runs in the emulated host, so that `status` on the
//! outside sees it, and what is sent to it from there arrives.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use noonmark_qemu::registry;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// How often it is looked whether a guest runs.
const LOOK: Duration = Duration::from_millis(100);

/// Hands on between `port` and whatever guest runs, for ever.
///
/// # Errors
/// Where there is no thread to be had.
pub fn start(port: File) -> io::Result<()> {
    thread::Builder::new()
        .name("status relay".to_owned())
        .spawn(move || {
            loop {
                if let Some(stream) = guest() {
                    between(&port, &stream);
                }
                thread::sleep(LOOK);
            }
        })
        .map(drop)
}

fn guest() -> Option<UnixStream> {
    let vm = registry::running().into_iter().next_back()?;
    UnixStream::connect(vm.status_socket()).ok()
}

/// Until the guest is gone, or the port is.
fn between(mut port: &File, mut guest: &UnixStream) {
    let mut buffer = [0; 4096];
    loop {
        let mut both = [
            PollFd::new(port, PollFlags::IN),
            PollFd::new(guest, PollFlags::IN),
        ];
        match poll(&mut both, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        let [from_port, from_guest] = both.map(|end| !end.revents().is_empty());
        if from_guest {
            match guest.read(&mut buffer) {
                Ok(length) if length > 0 && port.write_all(&buffer[..length]).is_ok() => {}
                _ => return,
            }
        }
        if from_port {
            match port.read(&mut buffer) {
                // Nobody is at its other end just now.
                Ok(0) => thread::sleep(LOOK),
                Ok(length) if guest.write_all(&buffer[..length]).is_ok() => {}
                _ => return,
            }
        }
    }
}
