//! Faults that a program in the guest does, timed by the observer in the guest.

use fastrand::Rng;
use noonmark_contract::testport;
use noonmark_contract::units::Nanos;

use crate::fault::plan::random_step;
use crate::fault::{Fault, SKEW_ERROR_MAX};
use crate::report::Sample;

use super::outcome::Trouble;
use super::repair::join;
use super::session::Session;

/// How long a clock must stay right in a storm: two watch ticks, so that the next scramble comes
/// soon.
const STORM_SETTLE: Nanos = Nanos::from_millis(40);

/// Does one, if it is one of those.
pub(crate) fn sample(
    session: &mut Session<'_>,
    fault: Fault,
    random: &mut Rng,
) -> Result<Sample, Trouble> {
    let (request, settle) = match fault {
        Fault::Storm { .. } => (testport::Fault::Shift(random_step(random)), STORM_SETTLE),
        other => match other.request() {
            Some(request) => (request, session.plan.settle),
            None => {
                return Err(Trouble::Refused(format!(
                    "`{fault}` is nothing that a program in the guest can do"
                )));
            }
        },
    };
    session.forget_records();
    let observation = session.observe(request, settle)?;
    let account = session.account()?;
    let mut sample = join(&observation, &account);
    if let (Fault::Storm { .. }, testport::Fault::Shift(span)) = (fault, request) {
        sample.detail = Fault::Step(span).to_string();
    }
    if is_skew(fault) && sample.worst_ns > SKEW_ERROR_MAX {
        sample.violations.push(format!(
            "the error reached {}; at most {SKEW_ERROR_MAX} is accepted",
            sample.worst_ns
        ));
    }
    Ok(sample)
}

fn is_skew(fault: Fault) -> bool {
    matches!(fault, Fault::Frequency { .. } | Fault::Tick { .. })
}
