//! Watches a clock that nobody disturbs: against ptp_kvm, which is the truth of this experiment
//! the program that keeps the clock.

use std::path::Path;
use std::thread;
use std::time::Duration;

use noonmark_contract::testport::{READINGS_MAX, SPAN_MAX_MS, Steady, Watch};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks::{self, Sandwich};
use thiserror::Error;

use crate::processes;
use crate::reference::Reference;

/// Where processes are listed.
const PROC: &str = "/proc";

/// Why a clock was not watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The request can't be carried out.
    #[error(
        "span_ms must be within 1..={SPAN_MAX_MS}, and every_ms so that there are 1 to \
         {READINGS_MAX} readings"
    )]
    Request,
    /// There is nothing to compare with.
    #[error("the guest has no ptp_kvm to compare its clock with: {0}")]
    NoReference(String),
    /// It can be read, but not well enough.
    #[error("ptp_kvm answered {0} of {1} readings by PTP_SYS_OFFSET_PRECISE; all others failed")]
    Unread(usize, u32),
}

/// What the clock said at this program's first instruction.
#[derive(Clone, Copy, Debug)]
pub struct FirstRead {
    read: Sandwich,
    uptime: Nanos,
}

impl FirstRead {
    /// Now.
    #[must_use]
    pub fn take() -> Self {
        Self {
            read: Sandwich::read(),
            uptime: clocks::boottime(),
        }
    }
}

/// Compares the clock with the host's for the request's span.
///
/// # Errors
/// [`WatchError`].
pub fn watch(
    request: Watch,
    first: FirstRead,
    reference: &mut Reference,
) -> Result<Steady, WatchError> {
    let count = readings(request).ok_or(WatchError::Request)?;
    reference.find().map_err(WatchError::NoReference)?;
    let before = processes::list(Path::new(PROC));
    let (began, began_at) = (clocks::raw(), clocks::boottime());
    let mut offsets = Vec::with_capacity(count);
    let mut last = None;
    let mut failed = 0;
    for number in 0..count {
        let due = began + Nanos::from_millis((number as u64 * request.every_ms) as i64);
        sleep_until(due);
        match reference.precise() {
            Some(reading) => {
                offsets.push(reading.offset());
                last = Some(Nanos(reading.reference.0.saturating_sub(reading.raw.0)));
            }
            None => failed += 1,
        }
    }
    sleep_until(began + Nanos::from_millis(request.span_ms as i64));
    let span = clocks::raw() - began;
    let reference_of_raw = last.ok_or(WatchError::Unread(offsets.len(), failed))?;
    Ok(Steady {
        offsets_ns: offsets,
        failed,
        began_at_ns: began_at,
        span_ns: span,
        processes: processes::since(&before, processes::list(Path::new(PROC))),
        // RAW has run since at the host's rate within its drift: some ppm, over the time since
        // boot, which is nothing beside what this is asked for.
        first_read_ns: reference_of_raw - first.read.difference(),
        first_read_at_ns: first.uptime,
    })
}

/// How many readings a request asks for; none where it can't be carried out.
fn readings(request: Watch) -> Option<usize> {
    let Watch { span_ms, every_ms } = request;
    if !(1..=SPAN_MAX_MS).contains(&span_ms) || every_ms == 0 {
        return None;
    }
    let count = span_ms / every_ms;
    (1..=READINGS_MAX)
        .contains(&count)
        .then(|| usize::try_from(count).ok())
        .flatten()
}

fn sleep_until(due: Raw) {
    let left = due - clocks::raw();
    thread::sleep(Duration::from_nanos(u64::try_from(left.0).unwrap_or(0)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(span_ms: u64, every_ms: u64) -> Option<usize> {
        readings(Watch { span_ms, every_ms })
    }

    #[test]
    fn a_request_without_readings_or_with_too_many_is_refused() {
        assert_eq!(count(60_000, 100), Some(600));
        assert_eq!(count(2_400, 1), Some(2_400));
        assert_eq!(count(2_401, 1), None);
        assert_eq!(count(100, 200), None);
        assert_eq!(count(100, 0), None);
        assert_eq!(count(0, 1), None);
        assert_eq!(count(SPAN_MAX_MS + 1, 60_000), None);
    }
}
