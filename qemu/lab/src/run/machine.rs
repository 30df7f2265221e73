//! Faults that stop the machine for a while, or move it: timed by the host from QEMU's RESUME on.

use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::testport::Ask;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_qemu::{Kick, Machine};

use crate::fault::{HostChange, Interruption};
use crate::report::Sample;

use super::host::{self, RestoredRate};
use super::outcome::SampleError;
use super::recovery::{Timeline, evaluate};
use super::repair::RepairRecord;
use super::session::{Exchange, Session};

/// Between two exchanges with the guest, so that its first processor has time for its own work.
const EXCHANGE_PAUSE: Duration = Duration::from_millis(4);

/// The same after the first second: what takes longer needs no finer resolution.
const LATER_PAUSE: Duration = Duration::from_millis(20);

/// How long the clock of a machine that tells of no disruption must have been right: nobody
/// noticed one, or a peer has repaired it.
const QUIET: Duration = Duration::from_secs(1);

/// Interrupts the machine, and follows its clock from the moment at which it runs again.
pub(crate) fn sample(
    session: &mut Session<'_>,
    interruption: Interruption,
) -> Result<Sample, SampleError> {
    session.forget_records();
    session.order(Ask::Vigil)?;
    // The guest's first reads, and the host's first question, run cold code.
    session.exchange()?;
    // A rate that was changed in between lasts until the guest has been followed.
    let (resumed, _rate) = interrupt(session.machine, interruption)?;
    let (timeline, record) = follow(session)?;
    let vigil = session.end_vigil()?;
    let mut sample =
        evaluate(&vigil, &timeline, resumed, session.plan.tolerance).ok_or_else(|| {
            SampleError::Refused("the guest did not run after it was resumed".to_owned())
        })?;
    record.add_to(&mut sample);
    Ok(sample)
}

/// Gives the instant from which the machine ran again, and what of the host's clock is to be restored.
fn interrupt(
    machine: &mut Machine,
    interruption: Interruption,
) -> Result<(Utc, Option<RestoredRate>), SampleError> {
    let kicked = |kick| if kick { Kick::Sent } else { Kick::Withheld };
    let mut changed = Ok(None);
    let mut change = |between| changed = host::change_between(between);
    let resumed = match interruption {
        Interruption::Pause { span, kick } => {
            machine.pause()?;
            thread::sleep(span);
            machine.resume(kicked(kick))
        }
        Interruption::Restore {
            away,
            kick,
            between,
        } => {
            check(between)?;
            machine.restore_after(away, kicked(kick), || {
                if let Some(between) = between {
                    change(between);
                }
            })
        }
        Interruption::Migrate { between } => {
            check(between)?;
            machine.migrate(between.map(|between| move || change(between)))
        }
    }?;
    Ok((resumed, changed?))
}

/// Before a machine is on its way, and can't be left there.
fn check(between: Option<HostChange>) -> Result<(), SampleError> {
    between.map_or(Ok(()), |_| host::emulated().map(drop))
}

/// Ties the guest's counter to the host's clock until the clock is repaired and has stayed right.
fn follow(session: &mut Session<'_>) -> Result<(Timeline, RepairRecord), SampleError> {
    let began = Instant::now();
    let deadline = began + session.recovery;
    let settle = Duration::from_nanos(session.plan.settle.0.max(0).unsigned_abs());
    let mut timeline = Timeline::default();
    let mut repair = RepairRecord::default();
    let mut repaired = None;
    let mut right_since = None;
    loop {
        let exchange = session.exchange()?;
        timeline.push(&exchange);
        while let Some(record) = session.event() {
            repair.take(&record.event);
        }
        let now = Instant::now();
        if repair.is_complete() {
            repaired.get_or_insert(now);
        }
        let settled = repaired.is_some_and(|at| now - at >= settle);
        let undisturbed = if is_right(&exchange, session.plan.tolerance) {
            now - *right_since.get_or_insert(now) >= QUIET
        } else {
            right_since = None;
            false
        };
        if settled || undisturbed || now >= deadline {
            return Ok((timeline, repair));
        }
        thread::sleep(if now - began < Duration::from_secs(1) {
            EXCHANGE_PAUSE
        } else {
            LATER_PAUSE
        });
    }
}

/// Whether the clock can have been right when the guest read it for an exchange.
fn is_right(exchange: &Exchange, tolerance: Nanos) -> bool {
    let error = exchange.error();
    error.error_ns.abs() <= tolerance + error.bound_ns
}

#[cfg(test)]
mod tests {
    use noonmark_contract::testport::HostTime;
    use noonmark_contract::units::Raw;

    use super::*;

    #[test]
    fn a_clock_is_right_where_it_was_read_between_question_and_answer_or_nearly_so() {
        let read = |realtime| Exchange {
            sent: Utc(10_000),
            received: Utc(14_000),
            raw: Raw(0),
            realtime: Utc(realtime),
            width: Nanos(0),
            host: None,
        };
        let right = |realtime| is_right(&read(realtime), Nanos(1_000));
        assert!(right(9_000) && right(12_000) && right(15_000));
        assert!(!right(8_998) && !right(15_002));
        let by_the_guest = Exchange {
            host: Some(HostTime {
                utc: Utc(10_500),
                bound_ns: Nanos(10),
            }),
            ..read(11_511)
        };
        assert!(!is_right(&by_the_guest, Nanos(1_000)));
        assert!(is_right(&by_the_guest, Nanos(1_001)));
    }
}
