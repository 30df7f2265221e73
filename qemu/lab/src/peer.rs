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

use crate::fault::{MachineVariant, Plan};
use crate::report::Report;
use crate::report::bench::FirstRead;
use crate::report::series::ErrorSeries;
use crate::report::steady::{KeptBy, SteadyState, right_since};
use crate::run::track::{self, Recording};
use crate::run::{ExperimentError, SampleError};

use guest::Guest;
use watch::{RIGHT_BEFORE, Watch};

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

/// Boots once, waits until the clock is right, and records its error against the host's: for `before`,
/// while `disturb` does something to the host or its clock, and for `after` from then on. With a
/// `disturb` that does nothing it tells how the guest follows the host as that is.
///
/// # Errors
/// Where the guest, the peer or `disturb` fails, or the guest has no ptp_kvm.
pub fn follow(
    boot: &mut Boot<'_>,
    keeper: &Keeper,
    name: &str,
    (before, after): (Duration, Duration),
    report: &mut Report,
    disturb: &mut dyn FnMut() -> Result<(), String>,
) -> Result<ErrorSeries, ExperimentError> {
    let mut recorded = || -> Result<Recording, SampleError> {
        let mut guest = Guest::boot(boot, keeper, MachineVariant::Plain)?;
        guest.describe(report);
        guest.wait_right(RIGHT_BEFORE)?;
        guest.ask(&Plan::new(Vec::new()), |session| {
            track::record(session, before, after, |_| {
                disturb().map_err(SampleError::Refused)
            })
        })
    };
    let Recording { points, missing } = recorded().map_err(SampleError::into_error)?;
    Ok(ErrorSeries {
        name: name.to_owned(),
        number: 1,
        points,
        missing,
        ..ErrorSeries::default()
    })
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
