//! The NTP client: asks time servers, and hands PID 1 what most of them agree on.
//!
//! It runs as a service without any right to the clock. PID 1 says when it wants a sample; how often
//! a server may be asked is decided here. What it is to do stands in [`NTP_FILE`].
//!
//! | module | what it is |
//! |---|---|
//! | [`random`] | what a forger can't guess |
//! | [`association`] | what has to be known of a server before it can be asked, and how that is found out |
//! | [`lookup`] | finding it out, on a thread |
//! | [`pace`] | when a server may be asked |
//! | [`server`] | one server: its association, the open request, what it said |
//! | [`client`] | a round of asking all of them, and the selection of the truechimers |

pub mod association;
pub mod client;
pub mod lookup;
pub mod pace;
pub mod random;
pub mod server;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::sync::Arc;

use noonmark_contract::config::network::{NTP_FILE, NtpTask};
use noonmark_contract::ntp::sock::Sample;
use noonmark_linux::clocks;

use association::Setup;
use client::Client;

/// Runs as the service that PID 1 has started. `setup` makes of the task what associations with its
/// servers are made by.
pub fn run(setup: impl FnOnce(&NtpTask) -> io::Result<Arc<dyn Setup>>) -> ExitCode {
    let client = task().and_then(|task| {
        let setup = setup(&task)?;
        Client::new(task, &setup, random::kernel)
    });
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            eprintln!("noonmark-ntp: {NTP_FILE}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Err(error) = serve(client);
    eprintln!("noonmark-ntp: the socket to PID 1, standard input: {error}");
    ExitCode::FAILURE
}

fn task() -> io::Result<NtpTask> {
    serde_json::from_slice(&fs::read(NTP_FILE)?).map_err(io::Error::other)
}

/// Serves PID 1 for as long as it is there.
fn serve(mut client: Client) -> io::Result<Infallible> {
    let socket = UnixDatagram::from(io::stdin().as_fd().try_clone_to_owned()?);
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
