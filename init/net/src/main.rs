//! `noonmark-net`: sets up the network that an image asks for, and keeps its leases.
//!
//! PID 1 runs it as a service; what it is to do stands in [`NETWORK_FILE`]. Upon SIGHUP it asks for its leases
//! anew. What it says goes where
//! every service's output goes.
//!
//! `manager` has the loop and decides; `rtnetlink` asks the kernel for links, addresses and routes;
//! `choice` tells which interface an entry means, `names` what udev would call one;
//! `dhcp` gets a lease, on the raw frames of `frames`; `resolv` writes the name servers.

mod choice;
mod dhcp;
mod frames;
mod manager;
mod names;
mod resolv;
mod rtnetlink;

use std::fs;
use std::io;
use std::process::ExitCode;

use manager::Manager;
use noonmark_contract::config::network::{NETWORK_FILE, Network};
use noonmark_linux::sys;
use rustix::process::Signal;

fn main() -> ExitCode {
    let error = match (config(), sys::signalfd(&[Signal::HUP.as_raw()])) {
        (Ok(config), Ok(hangups)) => match Manager::new(config, hangups) {
            Ok(mut manager) => manager.run().to_string(),
            Err(error) => error.to_string(),
        },
        (Err(error), _) => format!("{NETWORK_FILE}: {error}"),
        (_, Err(errno)) => format!("signalfd: {errno}"),
    };
    eprintln!("noonmark-net: {error}");
    ExitCode::FAILURE
}

fn config() -> io::Result<Network> {
    serde_json::from_slice(&fs::read(NETWORK_FILE)?).map_err(io::Error::other)
}
