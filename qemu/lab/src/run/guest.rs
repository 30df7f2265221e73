//! Faults that a program in the guest does, timed by the observer in the guest.

use fastrand::Rng;
use noonmark_contract::testport;
use noonmark_contract::units::Nanos;

use crate::fault::{Family, Fault, SKEW_ERROR_MAX, plan};
use crate::report::Sample;

use super::outcome::SampleError;
use super::repair::join;
use super::session::Session;

/// How long a clock must stay right in a storm: two watch ticks, so that the next scramble comes
/// soon.
const STORM_SETTLE: Nanos = Nanos::from_millis(40);

/// Has the fault program do what `fault` means.
pub(crate) fn sample(
    session: &mut Session<'_>,
    fault: Fault,
    request: testport::Fault,
) -> Result<Sample, SampleError> {
    let settle = session.plan.settle;
    let mut sample = observe(session, request, settle)?;
    if fault.family() == Family::Skew && sample.worst_ns > SKEW_ERROR_MAX {
        sample.violations.push(format!(
            "the error reached {}; at most {SKEW_ERROR_MAX} is accepted",
            sample.worst_ns
        ));
    }
    Ok(sample)
}

/// Does one scramble of a storm.
pub(crate) fn storm(session: &mut Session<'_>, random: &mut Rng) -> Result<Sample, SampleError> {
    let step = plan::random_step(random);
    let sample = observe(session, testport::Fault::Shift(step), STORM_SETTLE)?;
    let detail = Fault::Step(step).to_string();
    Ok(Sample { detail, ..sample })
}

fn observe(
    session: &mut Session<'_>,
    request: testport::Fault,
    settle: Nanos,
) -> Result<Sample, SampleError> {
    session.forget_records();
    let observation = session.observe(request, settle)?;
    let record = session.repair_record()?;
    Ok(join(&observation, &record))
}
