//! Where a service's output goes.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

use noonmark_contract::config::Output;

use super::relay::Relays;

/// The console's device.
const CONSOLE: &str = "/dev/console";

/// Opens what the service writes to.
///
/// # Errors
/// Why it can't be opened, as a text for the service's report.
pub fn open(output: &Output, relays: &mut Relays) -> Result<OwnedFd, String> {
    match output {
        Output::Console => match OpenOptions::new().write(true).open(CONSOLE) {
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
