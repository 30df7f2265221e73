//! What an experiment tells while it runs, what it comes to, and why it may not get to its end.

use std::time::Duration;

use noonmark_contract::record::{Record, Status};
use noonmark_contract::units::Nanos;
use noonmark_qemu::{Boot, MachineError};

use crate::fault::Fault;
use crate::report::{Report, Sample};

/// What an experiment tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A record came while the guest boots.
    Booting(&'a Record),
    /// The guest's clock is synced.
    Synced(&'a Status),
    /// A sample was taken; `number` counts from 1, and is 0 for the first fault after boot.
    Sampled {
        /// The fault.
        fault: Fault,
        /// Which of its samples.
        number: u32,
        /// Of how many.
        of: u32,
        /// What was measured.
        sample: &'a Sample,
    },
    /// A fault could not be done.
    Skipped {
        /// The fault.
        fault: Fault,
        /// Why.
        reason: &'a str,
    },
}

/// What an experiment came to.
#[derive(Debug)]
pub struct Outcome {
    /// What was measured, up to the error if there is one.
    pub report: Report,
    /// Why it did not get to its end.
    pub error: Option<ExperimentError>,
}

/// Why an experiment did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The fault program answered something else than what was asked.
    #[error(
        "the fault program in the guest answered request {got} where {expected} was under way; \
         the image and this program are of different versions: build the image again"
    )]
    WrongAnswer {
        /// The request's number.
        expected: u64,
        /// The answer's.
        got: u64,
    },
    /// What was asked for can't be done in this guest; why.
    #[error("{0}")]
    Refused(String),
    /// A peer's program is not running.
    #[error(
        "{peer}: the program that was to keep the guest's clock {what}; the guest's console:\n{console}"
    )]
    PeerEnded {
        /// The peer.
        peer: String,
        /// What PID 1 says of it.
        what: String,
        /// The console's last lines.
        console: String,
    },
    /// A peer did not bring the clock near the truth.
    #[error(
        "{peer}: the guest's clock was still off by {offset} {after:.0?} after the boot; the \
         guest's console:\n{console}"
    )]
    PeerNeverRight {
        /// The peer.
        peer: String,
        /// Truth minus clock.
        offset: Nanos,
        /// The time since QEMU's start.
        after: Duration,
        /// The console's last lines.
        console: String,
    },
}

/// The guest for the faults that need another one than the machine's own: it has a NIC's driver, and
/// prefers the PHC that `noonmark_qemu::nic` names to the host's time channel. Or why there is none.
pub type NicGuest = Result<Boot, String>;

/// Why a sample was not taken.
#[derive(Debug)]
pub(crate) enum SampleError {
    /// The experiment can't go on.
    Fatal(ExperimentError),
    /// This fault can't be done here; why.
    Refused(String),
}

impl SampleError {
    /// The same where there is nothing else to go on with.
    pub(crate) fn into_error(self) -> ExperimentError {
        match self {
            Self::Fatal(error) => error,
            Self::Refused(why) => ExperimentError::Refused(why),
        }
    }
}

impl<E: Into<ExperimentError>> From<E> for SampleError {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}
