//! Taking one sample, whatever the fault: each way to do one has its own way to be timed.

use fastrand::Rng;

use crate::fault::{Action, Fault, plan};
use crate::report::Sample;

use super::outcome::SampleError;
use super::session::Session;
use super::{guest, machine, source};

/// Does a fault once, and measures what became of the clock.
pub(crate) fn take(
    session: &mut Session<'_>,
    fault: Fault,
    random: &mut Rng,
) -> Result<Sample, SampleError> {
    match fault.profile().action {
        Action::Guest(request) => guest::sample(session, fault, request),
        Action::Storm => guest::storm(session, random),
        Action::Machine(interruption) => machine::sample(session, interruption),
        Action::Source(change) => source::sample(session, change),
        Action::Drawn => {
            let drawn = plan::random_fault(random);
            let sample = take(session, drawn, random)?;
            let detail = drawn.to_string();
            Ok(Sample { detail, ..sample })
        }
    }
}
