//! Runs the host's commands, in images for that alone: takes orders from a virtio-serial port, and joins
//! each command's standard streams to ports of their own.
//!
//! `session` is a command from its order to its end, `control` tells the host of it, `streams` copies its bytes, `shares` mounts the host's
//! folders. What is said on the port is in `noonmark_contract::run`.

mod control;
mod session;
mod shares;
mod streams;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::run::{self, LINE_BYTES_MAX, Order, Report};
use noonmark_linux::{kmsg, log, ports};

use crate::control::report;
use crate::session::{Event, Session};

/// How long the ports may take to appear after PID 1 has loaded their driver.
const PORT_DEADLINE: Duration = Duration::from_secs(30);

/// How often an absent port is looked for.
const RETRY: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    // Without a log the program works all the same.
    let _ = kmsg::open();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log!(Error, "commands of the host: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command after the other, until the host is gone.
fn serve() -> io::Result<()> {
    let deadline = Instant::now() + PORT_DEADLINE;
    let control = port(run::PORT, deadline)?;
    let streams = streams::Ports::open(|name| port(name, deadline))?;
    let (sender, events) = mpsc::channel();
    let orders = control.try_clone()?;
    let to_session = sender.clone();
    thread::Builder::new().spawn(move || read_orders(orders, &to_session))?;
    loop {
        match events.recv() {
            Ok(Event::Order(Ok(Order::Run(program)))) => {
                let session = Session {
                    control: &control,
                    streams: &streams,
                    sender: &sender,
                    events: &events,
                };
                if session.run(&program)?.is_break() {
                    return Ok(());
                }
            }
            Ok(Event::Order(Err(problem))) => {
                let why = format!("what came over the port {}: {problem}", run::PORT);
                report(&control, &Report::Failed { status: 125, why })?;
            }
            // A signal that comes too late, and the end of what never began.
            Ok(Event::Order(Ok(Order::Signal(_) | Order::InputEnds(_))) | Event::Ended) => {}
            Ok(Event::HostGone) | Err(_) => return Ok(()),
        }
    }
}

/// The port of this name, opened so that reads and writes wait.
fn port(name: &str, deadline: Instant) -> io::Result<File> {
    loop {
        if let Some(device) = ports::find(Path::new(ports::CLASS), Path::new("/dev"), name) {
            match OpenOptions::new().read(true).write(true).open(&device) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!(
                "port {name} did not appear within {PORT_DEADLINE:?}; is the virtserialport there?"
            )));
        }
        thread::sleep(RETRY);
    }
}

/// Hands on each order, at last that there will be no more. A line that is too long is none.
fn read_orders(control: File, to: &Sender<Event>) {
    let mut control = BufReader::new(control);
    loop {
        let mut line = Vec::new();
        let most = LINE_BYTES_MAX as u64 + 1;
        let read = control.by_ref().take(most).read_until(b'\n', &mut line);
        if !matches!(read, Ok(count) if count > 0) || line.pop() != Some(b'\n') {
            // Whoever listened for this has ended.
            let _ = to.send(Event::HostGone);
            return;
        }
        if to.send(Event::Order(Order::parse(&line))).is_err() {
            return;
        }
    }
}
