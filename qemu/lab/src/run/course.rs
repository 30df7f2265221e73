//! The course of an experiment, whoever keeps the clock: the first fault after boot, which runs cold code
//! and is reported on its own, then each fault as often as the plan says, those that need the same
//! machine one after the other.

use std::thread;

use noonmark_contract::testport::Ask;

use crate::fault::{Family, Fault, MachineVariant, Plan};
use crate::report::{FirstSample, Sample};

use super::outcome::{ExperimentError, SampleError};
use super::recorder::Recorder;
use super::session::{LOAD_WARM_UP, Session};

/// Guests whose clock something keeps, as far as an experiment asks for them.
pub(crate) trait Guests<'r> {
    /// What is written down.
    fn recorder(&mut self) -> &mut Recorder<'r>;

    /// Brings a machine into the state that a fault needs, or says why there is none.
    fn enter(&mut self, fault: Fault) -> Result<(), SampleError>;

    /// Does a fault once.
    fn sample(&mut self, fault: Fault, number: u32) -> Result<Sample, SampleError>;
}

/// Does all that is planned.
///
/// # Errors
///
/// What keeps the experiment from going on. That a fault can't be done is written down instead.
pub(crate) fn run<'r>(guests: &mut impl Guests<'r>) -> Result<(), ExperimentError> {
    let plan = guests.recorder().plan;
    // The first fault after boot that a program in the guest does runs cold code.
    let cold = |fault: &&Fault| fault.family() == Family::Step;
    if let Some(&fault) = plan.faults.iter().find(cold) {
        first(guests, fault)?;
    }
    for variant in MachineVariant::ALL {
        for &fault in plan.faults.iter().filter(|f| f.machine() == variant) {
            if plan.wanted(fault) == 0 {
                continue;
            }
            match all(guests, plan, fault) {
                Ok(()) => {}
                Err(SampleError::Refused(reason)) => guests.recorder().skip(fault, reason),
                Err(SampleError::Fatal(error)) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Puts the guest under load, or ends that.
pub(crate) fn load(session: &mut Session<'_>, wanted: bool) -> Result<(), SampleError> {
    session.order(if wanted { Ask::Load } else { Ask::EndLoad })?;
    thread::sleep(LOAD_WARM_UP);
    Ok(())
}

/// Whether a guest is under load while this is done to its clock.
pub(crate) fn is_loaded(fault: Fault) -> bool {
    matches!(fault, Fault::Storm { .. })
}

fn first<'r>(guests: &mut impl Guests<'r>, fault: Fault) -> Result<(), ExperimentError> {
    match guests.enter(fault).and_then(|()| guests.sample(fault, 0)) {
        Ok(sample) => {
            let recorder = guests.recorder();
            recorder.tell(fault, &sample);
            recorder.report.first = Some(FirstSample {
                fault: fault.to_string(),
                sample,
            });
            Ok(())
        }
        // The samples proper will say so.
        Err(SampleError::Refused(_)) => Ok(()),
        Err(SampleError::Fatal(error)) => Err(error),
    }
}

fn all<'r>(guests: &mut impl Guests<'r>, plan: &Plan, fault: Fault) -> Result<(), SampleError> {
    guests.recorder().begin(fault);
    for number in plan.numbers(fault) {
        guests.enter(fault)?;
        let sample = guests.sample(fault, number)?;
        guests.recorder().add(fault, sample);
    }
    Ok(())
}
