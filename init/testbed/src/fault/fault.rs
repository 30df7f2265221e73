//! Does a fault and watches what becomes of it.

use noonmark_contract::testport::{Fault, Observation, Request};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks::{self, Sandwich};
use rustix::io::Errno;
use thiserror::Error;

use crate::disturb::{Rate, disturb};
use crate::extrapolation::Extrapolation;
use crate::observer::Observer;
use crate::reference::{self, Reference};

/// How long the clock is watched before the fault, in slices of which each keeps its tightest
/// reading.
const LEARN_SLICES: usize = 40;
const LEARN_SLICE: Nanos = Nanos::from_micros(3_000);

/// How often learning is tried again where the clock was being corrected meanwhile.
const LEARN_TRIES: usize = 5;

/// The longest time that a request may make the observer spin.
const DEADLINE_MAX_MS: u64 = 60_000;

/// Why a fault was not done.
#[derive(Debug, Error)]
pub enum FaultError {
    /// The request can't be carried out.
    #[error("{0}")]
    Request(&'static str),
    /// There is no line to measure against.
    #[error(
        "the clock did not run steadily in {LEARN_TRIES} tries, so there is nothing to measure against"
    )]
    Unsteady,
    /// The system call failed.
    #[error("setting the clock: {0}; the program needs CAP_SYS_TIME")]
    Refused(Errno),
}

/// Learns the clock's line, disturbs the clock, and spins until it has stayed right for the
/// request's settling time or its deadline is over.
///
/// # Errors
/// [`FaultError`].
pub fn inject(request: &Request, reference: &mut Reference) -> Result<Observation, FaultError> {
    check(request)?;
    // Where there is no ptp_kvm, the host's clock is not known here. Looked for before the line is
    // learnt, which is the better the younger it is at the fault.
    let known = reference.find().is_ok();
    let undisturbed = learn()?;
    let skew = Skew::of(request).map_err(FaultError::Refused)?;
    let before = known.then(|| reference.error()).flatten();
    // Counted from before the system call: on one processor PID 1 can repair the clock before the
    // call even returns, and that time is the reader's too.
    let fault_at = clocks::raw();
    disturb(request.fault).map_err(FaultError::Refused)?;
    let deadline = fault_at + Nanos::from_millis(request.deadline_ms as i64);
    let mut observer = Observer::new(
        undisturbed,
        fault_at,
        request.tolerance_ns,
        request.settle_ns,
    );
    loop {
        let read = Sandwich::read();
        let restored = skew
            .as_ref()
            .is_none_or(|skew| skew.is_over(known.then_some(&mut *reference)));
        let settled = observer.take(&read, restored);
        if settled || read.after >= deadline {
            let after = known.then(|| reference.error()).flatten();
            return Ok(Observation {
                before,
                after,
                ..observer.finish(settled, read.after)
            });
        }
    }
}

/// A fault of the clock's rate.
struct Skew {
    before: Rate,
    foreign: Rate,
    /// The error against the host's clock that counts as none.
    limit: Nanos,
}

impl Skew {
    fn of(request: &Request) -> Result<Option<Self>, Errno> {
        if !matches!(request.fault, Fault::Frequency(_) | Fault::Tick(_)) {
            return Ok(None);
        }
        let before = Rate::read()?;
        Ok(Some(Self {
            before,
            foreign: before.changed(request.fault),
            limit: request.error_limit_ns,
        }))
    }

    /// Whether the foreign rate is gone and the clock right by the host's, at whatever rate it runs: what is
    /// left may be slewed away. Where that can't be read, the rate has to be what it was.
    fn is_over(&self, reference: Option<&mut Reference>) -> bool {
        let Ok(now) = Rate::read() else {
            return false;
        };
        match reference {
            Some(reference) => {
                let right = |reading| {
                    let error = reference::error(&reading);
                    error.error_ns.abs() + error.bound_ns <= self.limit
                };
                now != self.foreign && reference.precise().is_some_and(right)
            }
            None => now.is_about(self.before),
        }
    }
}

fn check(request: &Request) -> Result<(), FaultError> {
    if request.tolerance_ns <= Nanos::ZERO {
        return Err(FaultError::Request("tolerance_ns must be positive"));
    }
    if request.settle_ns < Nanos::ZERO {
        return Err(FaultError::Request("settle_ns must not be negative"));
    }
    if !(1..=DEADLINE_MAX_MS).contains(&request.deadline_ms) {
        return Err(FaultError::Request("deadline_ms must be within 1..=60000"));
    }
    Ok(())
}

fn learn() -> Result<Extrapolation, FaultError> {
    let mut readings = Vec::with_capacity(LEARN_SLICES);
    for _ in 0..LEARN_TRIES {
        readings.clear();
        for _ in 0..LEARN_SLICES {
            readings.push(tightest_until(clocks::raw() + LEARN_SLICE));
        }
        if let Some(line) = Extrapolation::fit(&readings) {
            return Ok(line);
        }
    }
    Err(FaultError::Unsteady)
}

fn tightest_until(end: Raw) -> Sandwich {
    let mut best = Sandwich::read();
    loop {
        let next = Sandwich::read();
        if next.width() < best.width() {
            best = next;
        }
        if next.after >= end {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            v: 1,
            id: 1,
            fault: Fault::None,
            tolerance_ns: Nanos::from_millis(1),
            error_limit_ns: Nanos::from_micros(1),
            settle_ns: Nanos::from_millis(5),
            deadline_ms: 30_000,
        }
    }

    #[test]
    fn a_request_that_would_spin_for_ever_or_judge_nothing_is_refused() {
        let mut bad = request();
        bad.deadline_ms = 0;
        assert!(check(&bad).is_err());
        bad.deadline_ms = DEADLINE_MAX_MS + 1;
        assert!(check(&bad).is_err());
        let mut bad = request();
        bad.tolerance_ns = Nanos::ZERO;
        assert!(check(&bad).is_err());
        assert!(check(&request()).is_ok());
    }

    #[test]
    fn an_undisturbed_clock_is_seen_as_right() {
        let seen = inject(&request(), &mut Reference::default()).unwrap();
        assert_eq!(seen.wrong_reads, 0);
        assert!(seen.recovered_ns.is_some());
        assert!(seen.residual_ns.abs() < Nanos::from_millis(1));
    }
}
