//! The machine's watchdog, `/dev/watchdog` (Documentation/watchdog/watchdog-api.rst): once it is opened,
//! the machine is reset unless PID 1's loop turns.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::sys;
use rustix::io::Errno;
use thiserror::Error;

const DEVICE: &str = "/dev/watchdog";

/// Tells the driver that the device is closed on purpose.
const MAGIC_CLOSE: &[u8] = b"V";

/// Why nobody watches PID 1.
#[derive(Debug, Error)]
#[error("[watchdog] {DEVICE}: {what}: {errno}; nothing resets the machine when PID 1 stands still")]
pub struct WatchdogError {
    what: &'static str,
    errno: Errno,
}

/// The watchdog, as long as it runs.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    /// How often the loop says that it turns: twice as often as it has to.
    every: Nanos,
    next: Raw,
}

impl Watchdog {
    /// Starts it. The driver may take another time than the one that is asked for.
    ///
    /// # Errors
    /// [`WatchdogError`].
    pub fn open(timeout_s: u32, now: Raw) -> Result<Self, WatchdogError> {
        let failed = |what| move |errno| WatchdogError { what, errno };
        let device = OpenOptions::new().write(true).open(DEVICE);
        let device = device
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .map_err(failed("opening it"))?;
        let timeout_s = i32::try_from(timeout_s).unwrap_or(i32::MAX);
        let taken_s = match sys::watchdog_set_timeout(&device, timeout_s) {
            Ok(taken_s) => taken_s,
            Err(errno) => {
                // It runs with a time that nobody asked for: better none.
                let mut device = device;
                let _ = device.write_all(MAGIC_CLOSE);
                return Err(failed("its time")(errno));
            }
        };
        Ok(Self {
            device,
            every: Nanos(Nanos::from_secs(taken_s.max(1).into()).0 / 2),
            next: now,
        })
    }

    /// When the loop has to turn next.
    #[must_use]
    pub fn deadline(&self) -> Raw {
        self.next
    }

    /// The loop has turned.
    pub fn turn(&mut self, now: Raw) {
        if self.next <= now {
            self.next = now + self.every;
            // What can't be written resets the machine, which is what it is for.
            let _ = self.device.write_all(b"\0");
        }
    }

    /// Ends it, where the driver lets anybody do that.
    pub fn end(mut self) {
        let _ = self.device.write_all(MAGIC_CLOSE);
    }
}
