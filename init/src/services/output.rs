//! Where a service's output goes.

use std::fs::{File, OpenOptions};
use std::path::Path;

use noonmark_sync::config::Output;

use crate::ports;

/// The console's device.
const CONSOLE: &str = "/dev/console";

/// Opens what the service writes to, in words where that fails. A writer waits there for a reader
/// of its own port, as with any terminal; PID 1 never does.
///
/// # Errors
/// There is no such port (yet), or it can't be opened.
pub fn open(output: &Output) -> Result<File, String> {
    match output {
        Output::Console => open_file(Path::new(CONSOLE)),
        Output::Port(name) => {
            let node = ports::find(Path::new(ports::CLASS), Path::new("/dev"), name);
            open_file(&node.ok_or_else(|| {
                format!(
                    "output: there is no virtio-serial port `{name}`; is the virtserialport there?"
                )
            })?)
        }
    }
}

fn open_file(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|error| format!("output: {}: {error}", path.display()))
}
