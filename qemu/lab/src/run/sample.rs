//! Taking one sample, whatever the fault: each family has its own way to be done and timed.

use fastrand::Rng;

use crate::fault::plan;
use crate::fault::{Family, Fault};
use crate::report::Sample;

use super::outcome::Trouble;
use super::session::Session;
use super::{guest, machine, source};

/// Does a fault once, and measures what became of the clock.
pub(crate) fn take(
    session: &mut Session<'_>,
    fault: Fault,
    random: &mut Rng,
) -> Result<Sample, Trouble> {
    match fault {
        Fault::Combined => {
            let drawn = plan::random_fault(random);
            let sample = of_family(session, drawn, random)?;
            let detail = drawn.to_string();
            Ok(Sample { detail, ..sample })
        }
        fault => of_family(session, fault, random),
    }
}

fn of_family(session: &mut Session<'_>, fault: Fault, random: &mut Rng) -> Result<Sample, Trouble> {
    match fault.family() {
        Family::Pause | Family::Restore | Family::Migrate => machine::sample(session, fault),
        Family::SourceLoss | Family::Liar => source::sample(session, fault),
        _ => guest::sample(session, fault, random),
    }
}
