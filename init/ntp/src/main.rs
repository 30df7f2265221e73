//! `noonmark-ntp`: asks time servers, and hands PID 1 what most of them agree on.
//!
//! It runs as a service without any right to the clock. PID 1 says when it wants a sample; how often
//! a server may be asked is decided here. What it is to do stands in [`NTP_FILE`].
//!
//! `client` asks all servers in a round and selects the truechimers; `server` is one server, its
//! socket and its poll interval; `random` has what a forger can't guess.

mod client;
mod random;
mod server;

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::ExitCode;

use client::Client;
use noonmark_contract::config::network::{NTP_FILE, NtpTask};
use noonmark_contract::ntp::sock::{SOCKET, Sample};
use noonmark_linux::clocks;

/// The address that PID 1 answers to.
const ADDRESS: &[u8] = b"noonmark-ntp";

fn main() -> ExitCode {
    let task = match task() {
        Ok(task) => task,
        Err(error) => {
            eprintln!("noonmark-ntp: {NTP_FILE}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Err(error) = serve(Client::new(task, random::kernel));
    eprintln!("noonmark-ntp: {SOCKET}: {error}");
    ExitCode::FAILURE
}

fn task() -> io::Result<NtpTask> {
    serde_json::from_slice(&fs::read(NTP_FILE)?).map_err(io::Error::other)
}

/// Serves PID 1 for as long as it is there.
fn serve(mut client: Client) -> io::Result<std::convert::Infallible> {
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(ADDRESS)?)?;
    socket.connect(SOCKET)?;
    socket.send(&[])?;
    loop {
        // What was asked doesn't matter, only that it was; PID 1 has the deadlines.
        socket.recv(&mut [0; 8])?;
        if let Some(measurement) = client.measure() {
            let elapsed = clocks::raw() - measurement.raw;
            let sample = Sample {
                realtime: clocks::realtime() - elapsed,
                reference: measurement.reference,
                raw: measurement.raw,
                bound: measurement.distance,
            };
            socket.send(&sample.to_bytes())?;
        }
    }
}
