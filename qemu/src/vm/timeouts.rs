//! How long to wait for what.

use std::time::Duration;

use crate::accel::Accelerator;

/// How long to wait for what; emulation gets more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    factor: u32,
}

impl Timeouts {
    /// The timeouts that suit an accelerator.
    #[must_use]
    pub fn new(accelerator: Accelerator) -> Self {
        Self {
            factor: match accelerator {
                Accelerator::Kvm => 1,
                Accelerator::Nested | Accelerator::Tcg => 4,
            },
        }
    }

    /// From QEMU's start to its QMP greeting.
    #[must_use]
    pub fn start(self) -> Duration {
        Duration::from_secs(10) * self.factor
    }

    /// From QEMU's start to the first record on the status port.
    #[must_use]
    pub fn boot(self) -> Duration {
        Duration::from_secs(30) * self.factor
    }

    /// From the first record to the first sync.
    #[must_use]
    pub fn sync(self) -> Duration {
        Duration::from_secs(10) * self.factor
    }

    /// For one answer to a command.
    #[must_use]
    pub fn answer(self) -> Duration {
        Duration::from_secs(5) * self.factor
    }

    /// From a fault to the clock's being right again, as seen in the guest.
    #[must_use]
    pub fn recovery(self) -> Duration {
        Duration::from_secs(5) * self.factor
    }

    /// From a power-off's request to QEMU's end.
    #[must_use]
    pub fn shutdown(self) -> Duration {
        Duration::from_secs(5) * self.factor
    }
}
