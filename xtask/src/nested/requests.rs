//! What programs in the emulated host ask of its outside: that the host stand still for a while.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use noonmark_qemu::kvm_host::REQUESTS;

use super::frame::Report;
use super::port::{Port, report};

/// Takes requests from now on, one after the other. What the outside answers is to be sent to the sender
/// that is given back.
///
/// # Errors
/// Where there is no socket or no thread to be had.
pub fn serve(port: &Port) -> io::Result<Sender<Result<(), String>>> {
    let _ = fs::remove_file(REQUESTS);
    let listener = UnixListener::bind(REQUESTS)?;
    let (answers, answered) = mpsc::channel();
    let port = Arc::clone(port);
    thread::Builder::new()
        .name("requests".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever asked and is gone needs no answer.
                let _ = serve_one(stream, &port, &answered);
            }
        })?;
    Ok(answers)
}

fn serve_one(
    mut stream: UnixStream,
    port: &Port,
    answered: &Receiver<Result<(), String>>,
) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let Ok(millis) = line.trim().parse() else {
        return writeln!(stream, "expected milliseconds");
    };
    report(port, &Report::Suspend(millis), &[])?;
    match answered.recv() {
        Ok(Ok(())) => writeln!(stream, "done"),
        Ok(Err(why)) => writeln!(stream, "{}", why.replace('\n', " ")),
        Err(_) => writeln!(stream, "the outside is gone"),
    }
}
