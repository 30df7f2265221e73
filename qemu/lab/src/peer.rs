//! The experiment with a peer: PID 1 leaves the guest's clock alone, another program keeps it, and
//! the same fault program disturbs and watches it.
//!
//! The truth that a peer has to come to is ptp_kvm's clock, as the fault program reads it; a host
//! that doesn't offer that has nothing that a peer could follow either.

mod faults;
mod guest;
mod watch;

use std::time::Duration;

use noonmark_contract::units::Nanos;

use crate::fault::MachineVariant;
use crate::report::Report;
use crate::report::bench::FirstRead;
use crate::report::steady::{KeptBy, SteadyState, right_since};
use crate::run::{ExperimentError, SampleError};

use guest::Guest;
use watch::Watch;

pub use faults::run;
pub use guest::{Boot, Keeper};

/// What came of watching an undisturbed clock.
#[derive(Debug)]
pub struct Watched {
    /// What was seen, up to the error if there is one; none where nothing was.
    pub state: Option<SteadyState>,
    /// Why it was not watched to the end.
    pub error: Option<ExperimentError>,
}

/// Boots once and watches the undisturbed clock for `span`; where that takes place is written to
/// `report`. What was seen so far goes to `progress` every few seconds.
pub fn steady(
    boot: &mut Boot<'_>,
    keeper: &Keeper,
    span: Duration,
    report: &mut Report,
    progress: &mut dyn FnMut(&SteadyState),
) -> Watched {
    let mut state = SteadyState::default();
    let mut watched = || -> Result<(), SampleError> {
        let mut guest = Guest::boot(boot, keeper, MachineVariant::Plain)?;
        guest.describe(report);
        let kept_by = keeper
            .service
            .as_deref()
            .map_or(KeptBy::Init, KeptBy::Program);
        let mut watch = Watch::begin(&mut guest, kept_by, span)?;
        state.warm_up_ns = watch.warm_up();
        watch.go_on(span, &mut state, progress)
    };
    let error = watched().map_err(SampleError::into_error).err();
    Watched {
        state: (!state.offsets_ns.is_empty()).then(|| state.finish()),
        error,
    }
}

/// Boots once, and tells what a program that was started at boot read, and when the clock was right
/// within the report's tolerance.
///
/// # Errors
/// Where the guest or the peer fails, or the clock can't be watched.
pub fn first_read(
    boot: &mut Boot<'_>,
    keeper: &Keeper,
    report: &mut Report,
) -> Result<FirstRead, ExperimentError> {
    let mut read = || -> Result<FirstRead, SampleError> {
        let mut guest = Guest::boot(boot, keeper, MachineVariant::Plain)?;
        guest.describe(report);
        until_right(&mut guest, keeper, report.tolerance_ns)
    };
    read().map_err(SampleError::into_error)
}

fn until_right(
    guest: &mut Guest<'_>,
    keeper: &Keeper,
    tolerance: Nanos,
) -> Result<FirstRead, SampleError> {
    let mut first: Option<FirstRead> = None;
    loop {
        let seen = guest.look()?;
        let new = first.is_none();
        let read = first.get_or_insert(FirstRead {
            error_ns: seen.first_read_ns,
            at_ns: seen.first_read_at_ns,
            right_at_ns: None,
        });
        // Right at its first read, and at every one since: then it was never seen wrong.
        let never_wrong = new && read.error_ns.abs() <= tolerance;
        read.right_at_ns = match right_since(&seen, tolerance) {
            Some(since) if never_wrong && since == seen.began_at_ns => Some(read.at_ns),
            since => since,
        };
        let late = guest.machine.started().elapsed() > keeper.right_within;
        if read.right_at_ns.is_some() || late {
            return Ok(*read);
        }
    }
}
