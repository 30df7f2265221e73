//! The way down: everybody is asked, then told, then the machine ends.

use noonmark_sync::record::Shutdown;
use noonmark_sync::units::{Nanos, Raw};
use rustix::process::Signal;

use crate::services;

/// How long programs may take after SIGTERM, and after SIGKILL.
const GRACE: Nanos = Nanos::from_secs(1);
const KILL_GRACE: Nanos = Nanos::from_millis(300);

/// A shutdown under way.
#[derive(Debug)]
pub struct Stopping {
    how: Shutdown,
    killed: bool,
    deadline: Raw,
}

impl Stopping {
    /// Asks every program to end.
    #[must_use]
    pub fn begin(how: Shutdown, now: Raw) -> Self {
        services::signal_all(Signal::TERM);
        Self {
            how,
            killed: false,
            deadline: now + GRACE,
        }
    }

    /// When [`Stopping::expire`] must be called.
    #[must_use]
    pub fn deadline(&self) -> Raw {
        self.deadline
    }

    /// How the machine is to end.
    #[must_use]
    pub fn how(&self) -> Shutdown {
        self.how
    }

    /// At the deadline: kills what is left; true where that has been done already, and there is
    /// nothing more to wait for.
    pub fn expire(&mut self, now: Raw) -> bool {
        if now < self.deadline {
            return false;
        }
        if self.killed {
            return true;
        }
        services::signal_all(Signal::KILL);
        self.killed = true;
        self.deadline = now + KILL_GRACE;
        false
    }
}
