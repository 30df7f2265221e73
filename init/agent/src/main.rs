//! `noonmark-agent`: answers a host as QEMU's guest agent does, without any right of its own.
//!
//! PID 1 runs it as a service where the machine has the port, and hands it that over the socket that is
//! its standard input; by the same socket it asks PID 1 for what takes a right. Its arguments are the
//! commands that it may carry out.
//!
//! | module | job |
//! |---|---|
//! | [`pid1`] | the socket to PID 1 |
//! | [`host`] | the port: requests in, replies out, a bounded amount of both |
//! | [`commands`] | what becomes of a request |
//! | [`reply`] | replies and errors, in QEMU's words |
//! | [`network`], [`file_systems`], [`system`] | what the guest says of itself |

mod commands;
mod file_systems;
mod host;
mod network;
mod pid1;
mod reply;
mod system;

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;

use commands::Commands;
use host::Host;
use pid1::Pid1;
use rustix::event::{PollFd, PollFlags, poll};

fn main() -> ExitCode {
    let allowed = std::env::args().skip(1).collect();
    let Err(error) = serve(allowed);
    eprintln!("noonmark-agent: the socket to PID 1, standard input: {error}");
    ExitCode::FAILURE
}

/// Serves the host for as long as PID 1 is there.
fn serve(allowed: Vec<String>) -> io::Result<Infallible> {
    let mut pid1 = Pid1::open()?;
    let mut host = Host::new()?;
    let commands = Commands::new(allowed);
    loop {
        let mut waited = [
            PollFd::new(&pid1, PollFlags::IN),
            PollFd::new(&host, PollFlags::IN),
        ];
        match poll(&mut waited, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if let Some(port) = pid1.hear()? {
            host.attach(port)?;
        }
        host.serve(|found| commands.answer(found, &mut pid1));
    }
}
