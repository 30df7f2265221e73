//! Faults that stop the machine for a while, or move it: timed by the host from QEMU's RESUME on.

use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::testport::Ask;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_qemu::{Kick, Machine, MachineError};

use crate::fault::Fault;
use crate::report::{MeasuredBy, Sample};

use super::outcome::Trouble;
use super::recovery::{Judgement, Timeline, judge};
use super::repair::Account;
use super::session::{Exchange, Session};

/// Between two exchanges with the guest, so that its first processor has time for its own work.
const EXCHANGE_PAUSE: Duration = Duration::from_millis(4);

/// The same after the first second: what takes longer needs no finer resolution.
const LATER_PAUSE: Duration = Duration::from_millis(20);

/// How long the clock of a machine that tells of no disruption must have been right: nobody
/// noticed one, or a peer has repaired it.
const QUIET: Duration = Duration::from_secs(1);

/// Does one, if it is one of those.
pub(crate) fn sample(session: &mut Session<'_>, fault: Fault) -> Result<Sample, Trouble> {
    session.forget_records();
    session.order(Ask::Vigil)?;
    // The vigil's first reads, and the host's first question, run cold code.
    session.exchange()?;
    let resumed = disturb(session.machine, fault)?;
    let (timeline, account) = follow(session)?;
    let vigil = session.end_vigil()?;
    let judged = judge(&vigil, &timeline, resumed, session.plan.tolerance)
        .ok_or_else(|| Trouble::Refused("the guest did not run after it was resumed".to_owned()))?;
    let mut sample = Sample {
        violations: lost(vigil.lost),
        ..sample_of(judged)
    };
    account.tell(&mut sample);
    Ok(sample)
}

/// The sample that a judgement makes.
pub(crate) fn sample_of(judged: Judgement) -> Sample {
    Sample {
        recovered_ns: judged.recovered,
        wrong_reads: judged.wrong_reads,
        residual_ns: judged.residual,
        residual_bound_ns: judged.residual_bound,
        reads: judged.reads,
        worst_ns: judged.worst,
        measured_by: MeasuredBy::Host,
        timing_bound_ns: Some(judged.timing_bound),
        trace: judged.trace,
        ..Sample::default()
    }
}

/// A clock that jumped more often than a vigil can keep.
pub(crate) fn lost(jumps: u64) -> Vec<String> {
    let told = (jumps > 0).then(|| format!("the clock jumped {jumps} times more than can be told"));
    told.into_iter().collect()
}

/// Disturbs the machine; gives the instant from which it ran again.
fn disturb(machine: &mut Machine, fault: Fault) -> Result<Utc, Trouble> {
    let kicked = |kick| if kick { Kick::Sent } else { Kick::Withheld };
    let resumed = match fault {
        Fault::Pause { span, kick } => {
            machine.pause()?;
            thread::sleep(span);
            machine.resume(kicked(kick))
        }
        Fault::Restore { away, kick, .. } => machine.restore_after(away, kicked(kick)),
        Fault::Migrate => machine.migrate(),
        other => {
            return Err(Trouble::Refused(format!(
                "`{other}` is nothing that is done to a whole machine"
            )));
        }
    };
    resumed.map_err(|error: MachineError| error.into())
}

/// Ties the guest's counter to the host's clock until the clock is repaired and has stayed right.
fn follow(session: &mut Session<'_>) -> Result<(Timeline, Account), Trouble> {
    let began = Instant::now();
    let deadline = began + session.recovery;
    let settle = Duration::from_nanos(session.plan.settle.0.max(0).unsigned_abs());
    let mut timeline = Timeline::default();
    let mut account = Account::default();
    let mut repaired = None;
    let mut right_since = None;
    loop {
        let exchange = session.exchange()?;
        timeline.push(&exchange);
        while let Some(record) = session.event() {
            account.take(&record.event);
        }
        let now = Instant::now();
        if account.is_complete() {
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
            return Ok((timeline, account));
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
    (exchange.sent - tolerance..=exchange.received + tolerance).contains(&exchange.realtime)
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Raw;

    use super::*;

    #[test]
    fn a_clock_is_right_where_it_was_read_between_question_and_answer_or_nearly_so() {
        let read = |realtime| Exchange {
            sent: Utc(10_000),
            received: Utc(14_000),
            raw: Raw(0),
            realtime: Utc(realtime),
            width: Nanos(100),
        };
        let right = |realtime| is_right(&read(realtime), Nanos(1_000));
        assert!(right(9_000) && right(12_000) && right(15_000));
        assert!(!right(8_999) && !right(15_001));
    }
}
