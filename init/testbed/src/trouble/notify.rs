//! Services that say how they are doing (sd_notify(3)), rightly and wrongly.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};
use rustix::pipe::pipe;

use super::outcome::tell;

/// How long it takes to be ready, and how often it says that it is alive before it falls silent.
const WARMING_UP: Duration = Duration::from_secs(1);
const ALIVE: [Duration; 4] = [Duration::from_millis(700); 4];

/// How many datagrams who floods sends in one go.
const FLOOD: u32 = 100;

fn say(to: &str, text: &str) -> io::Result<()> {
    UnixDatagram::unbound()?
        .send_to(text.as_bytes(), to)
        .map(drop)
}

fn own_socket() -> String {
    std::env::var("NOTIFY_SOCKET").unwrap_or_default()
}

/// Is ready after a while, alive for another, then hangs.
pub fn hang_once_alive() -> io::Result<ExitCode> {
    let is = |name: &str, expected: &str| std::env::var(name).is_ok_and(|value| value == expected);
    let pid = std::process::id().to_string();
    if !is("WATCHDOG_PID", &pid) || !is("WATCHDOG_USEC", "2000000") {
        tell("the watchdog's variables are wrong");
        return Ok(ExitCode::from(3));
    }
    let socket = own_socket();
    say(&socket, "STATUS=warming up")?;
    thread::sleep(WARMING_UP);
    say(&socket, "READY=1\nSTATUS=up \x1b[31m\nX_OTHER=1")?;
    for pause in ALIVE {
        thread::sleep(pause);
        say(&socket, "WATCHDOG=1")?;
    }
    loop {
        thread::sleep(Duration::from_secs(3_600));
    }
}

/// Has a child say that it is ready, as scripts do by `systemd-notify`.
pub fn by_a_child() -> io::Result<ExitCode> {
    let child = Command::new("/proc/self/exe")
        .arg("notify-ready")
        .status()?;
    tell(&format!("the child has said it: {child}"));
    loop {
        thread::sleep(Duration::from_secs(3_600));
    }
}

/// Says that its service is ready, and waits until PID 1 has heard it.
pub fn say_ready() -> io::Result<ExitCode> {
    let socket = own_socket();
    say(&socket, "READY=1")?;
    let (heard, sent) = pipe()?;
    barrier(&socket, sent)?;
    let mut waited = [PollFd::new(&heard, PollFlags::empty())];
    poll(&mut waited, None)?;
    Ok(ExitCode::SUCCESS)
}

/// `BARRIER=1` (sd_notify_barrier(3)): PID 1 closes the descriptor once it has come to this.
fn barrier(socket: &str, descriptor: OwnedFd) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    let descriptors = [descriptor.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let text = [IoSlice::new(b"BARRIER=1")];
    let address = SocketAddrUnix::new(socket)?;
    sendmsg_addr(&sender, &address, &text, &mut control, SendFlags::empty())?;
    Ok(())
}

/// Says without end in another service's name that it is ready.
pub fn forge(of: &str) -> io::Result<ExitCode> {
    let socket = format!("/run/noonmark/notify.{of}");
    loop {
        for _ in 0..FLOOD {
            // Until the other service was started there is no such socket.
            let _ = say(&socket, "READY=1");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Says that it stops, and doesn't.
pub fn stop_by_itself() -> io::Result<ExitCode> {
    say(&own_socket(), "READY=1\nSTOPPING=1")?;
    loop {
        thread::sleep(Duration::from_secs(3_600));
    }
}
