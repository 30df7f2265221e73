//! The emulated host's end of the port to the outside, which several of its threads write to.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::frame::{self, Report};

/// The port, for one writer at a time.
pub type Port = Arc<Mutex<File>>;

/// Sends a report.
///
/// # Errors
/// Where the port can't be written.
pub fn report(port: &Port, report: &Report, body: &[u8]) -> io::Result<()> {
    let mut port = port.lock().unwrap_or_else(PoisonError::into_inner);
    frame::write(&mut *port, report, body)
}
