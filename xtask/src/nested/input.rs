//! Standard input for a command in the emulated host: sent as it is read here, and no more at once than is
//! taken there, so that an order behind it, as Ctrl-C is one, never waits.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ChildStdin;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;

use super::frame::{Order, Report, send};
use super::port::{Port, report};

/// What is sent at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// So many may be on their way.
const CHUNKS: usize = 16;

/// The sender on this machine.
pub struct Input(SyncSender<()>);

impl Input {
    /// Reads this program's standard input from now on.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(orders: &Arc<Mutex<UnixStream>>) -> io::Result<Self> {
        let orders = Arc::clone(orders);
        let (taken, free) = mpsc::sync_channel(CHUNKS);
        for _ in 0..CHUNKS {
            // It has room for all of them.
            let _ = taken.try_send(());
        }
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || copy(&orders, &free))?;
        Ok(Self(taken))
    }

    /// The other end has taken one.
    pub fn taken(&self) {
        // More than were sent can't be taken by an honest end.
        let _ = self.0.try_send(());
    }
}

fn copy(orders: &Mutex<UnixStream>, free: &Receiver<()>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while free.recv().is_ok() {
        let length = loop {
            match io::stdin().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What can't be read any more has ended.
                read => break read.unwrap_or(0),
            }
        };
        if send(orders, &Order::Input, &buffer[..length]).is_err() || length == 0 {
            return;
        }
    }
}

/// The receiver in the emulated host: a thread that writes to the command, with as much before it as the
/// other end may send.
pub fn receive(mut stdin: ChildStdin, port: Port) -> Sender<Vec<u8>> {
    let (sender, chunks) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        let mut takes = true;
        for chunk in chunks {
            if chunk.is_empty() {
                return;
            }
            // A command that has closed its input takes none of it.
            takes = takes && stdin.write_all(&chunk).is_ok();
            if report(&port, &Report::Taken, &[]).is_err() {
                return;
            }
        }
    });
    sender
}
