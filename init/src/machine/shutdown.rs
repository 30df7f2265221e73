//! Going down: services first, then whatever is left, then the machine; each within a bound.

use noonmark_contract::record::Shutdown;
use noonmark_contract::units::{Nanos, Raw};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long services may take beyond what each of them has: none should need it.
const SLACK: Nanos = Nanos::from_secs(1);

/// How long what was killed may take to be gone.
const KILL_GRACE: Nanos = Nanos::from_millis(300);

/// A shutdown under way.
#[derive(Debug)]
pub struct Stopping {
    how: Shutdown,
    killed: bool,
    deadline: Raw,
}

impl Stopping {
    /// The services have been asked to end, which takes them `grace` at most.
    #[must_use]
    pub fn begin(how: Shutdown, grace: Nanos, now: Raw) -> Self {
        Self {
            how,
            killed: false,
            deadline: now + grace + SLACK,
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

    /// Whether everything has been killed, so that only its end is waited for.
    #[must_use]
    pub fn killed(&self) -> bool {
        self.killed
    }

    /// Kills what is left once the services are down, or their time is over; true where that has
    /// been done already, and there is nothing more to wait for.
    pub fn expire(&mut self, now: Raw, services_down: bool) -> bool {
        if self.killed {
            return now >= self.deadline;
        }
        if services_down || now >= self.deadline {
            kill_all();
            self.killed = true;
            self.deadline = now + KILL_GRACE;
        }
        false
    }
}

/// Kills every process but PID 1.
fn kill_all() {
    // kill(2) takes -1 for "everybody that I may signal", which for PID 1 leaves out itself; the
    // group of process 1 is how that is spelled here. ESRCH only says that there is nobody.
    let _ = kill_process_group(Pid::INIT, Signal::KILL);
}
