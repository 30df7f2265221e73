//! Taking one sample, whatever the fault: each way to do one has its own way to be timed, and all of
//! them have the clock's error against the host's measured in the same way before and after.

use fastrand::Rng;

use crate::fault::{Action, Fault, plan};
use crate::report::Sample;
use crate::report::exits::Exits;

use super::outcome::SampleError;
use super::session::Session;
use super::{guest, host, machine, source};

/// Does a fault once, and measures what became of the clock.
pub(crate) fn take(
    session: &mut Session<'_>,
    fault: Fault,
    random: &mut Rng,
) -> Result<Sample, SampleError> {
    let bound = session.wanted_bound();
    let before = session.host_error(bound)?;
    let (pid, exits) = (session.machine.pid(), Exits::of(session.machine.pid()));
    let mut sample = disturb(session, fault, random)?;
    if session.machine.pid() == pid {
        // A QEMU that took the machine over counts from its own start.
        let after = exits.and_then(|_| Exits::of(pid));
        sample.exits = after.zip(exits).map(|(after, before)| after - before);
    }
    // What the observer has read itself is nearer to the fault and to the recovery.
    sample.before.get_or_insert(before);
    if sample.after.is_none_or(|after| after.bound_ns > bound) {
        sample.after = Some(session.host_error(bound)?);
    }
    sample.error_limit_ns = Some(session.error_limit);
    Ok(sample)
}

fn disturb(
    session: &mut Session<'_>,
    fault: Fault,
    random: &mut Rng,
) -> Result<Sample, SampleError> {
    match fault.profile().action {
        Action::Guest(request) => guest::sample(session, fault, request),
        Action::Storm => guest::storm(session, random),
        Action::Host(change) => host::sample(session, change),
        Action::Machine(interruption) => machine::sample(session, interruption),
        Action::Source(change) => source::sample(session, change),
        Action::Drawn => {
            let drawn = plan::random_fault(random);
            let sample = disturb(session, drawn, random)?;
            let detail = drawn.to_string();
            Ok(Sample { detail, ..sample })
        }
    }
}
