//! What the host is told on the port of its orders.

use std::fs::File;
use std::io::{self, Write as _};

use noonmark_contract::run::Report;

/// Tells the host.
///
/// # Errors
/// The port can't be written.
pub fn report(mut control: &File, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    control.write_all(&line)
}
