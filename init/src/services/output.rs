//! Where a service's output goes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;

use noonmark_contract::config::Output;
use rustix::io::Errno;

use super::relay::Relays;

/// The console's device.
const CONSOLE: &str = "/dev/console";
const NULL: &str = "/dev/null";

/// Opens what the service writes to.
///
/// # Errors
/// Why it can't be opened, as a text for the service's report.
pub fn open(output: &Output, relays: &mut Relays) -> Result<OwnedFd, String> {
    match output {
        Output::Console => match open_console() {
            Ok(console) => Ok(console.into()),
            Err(error) => Err(format!("output: {CONSOLE}: {error}")),
        },
        Output::Port(name) => {
            let failed = |what: &dyn std::fmt::Display| format!("output: port {name}: {what}");
            let writer = relays.writer(name).map_err(|errno| failed(&errno))?;
            let own = writer.try_clone_to_owned();
            own.map_err(|error| failed(&error))
        }
    }
}

/// Opens the console; on a machine without one, what is said is heard by nobody.
fn open_console() -> io::Result<File> {
    let open = |path| OpenOptions::new().write(true).open(path);
    open(CONSOLE).or_else(|error| match Errno::from_io_error(&error) {
        Some(Errno::NODEV | Errno::NXIO | Errno::IO) => open(NULL),
        _ => Err(error),
    })
}
