//! Where a service's output goes.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

use noonmark_contract::config::Output;

use super::relay::Relays;

/// The console's device.
const CONSOLE: &str = "/dev/console";

/// Opens what the service writes to, in words where that fails.
///
/// # Errors
/// It can't be opened, or there is no way to the port.
pub fn open(output: &Output, relays: &mut Relays) -> Result<OwnedFd, String> {
    match output {
        Output::Console => match OpenOptions::new().write(true).open(CONSOLE) {
            Ok(console) => Ok(console.into()),
            Err(error) => Err(format!("output: {CONSOLE}: {error}")),
        },
        Output::Port(name) => {
            let failed = |what: &dyn std::fmt::Display| format!("output: port {name}: {what}");
            let entrance = relays.entrance(name).map_err(|errno| failed(&errno))?;
            let own = entrance.try_clone_to_owned();
            own.map_err(|error| failed(&error))
        }
    }
}
