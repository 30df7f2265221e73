//! Recording the clock's error against the host's while something is done to the host.

use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::testport::{ErrorPoint, TRACK_POINTS_MAX};

use super::outcome::SampleError;
use super::session::Session;

/// The least time between two readings.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recording {
    /// The readings, each at its time since the disturbance.
    pub(crate) points: Vec<ErrorPoint>,
    /// Readings that are missing.
    pub(crate) missing: u32,
}

/// Records the error for `before`, then while `disturb` does what it does, and for `after` from when
/// that began; refused in a guest without ptp_kvm. The time that the readings are counted from is just
/// before `disturb`.
pub(crate) fn record(
    session: &mut Session<'_>,
    before: Duration,
    after: Duration,
    disturb: impl FnOnce(&mut Session<'_>) -> Result<(), SampleError>,
) -> Result<Recording, SampleError> {
    let tracking = session.begin_track(pace(before + after))?;
    thread::sleep(before);
    let since = Instant::now();
    let disturbed = disturb(session);
    if disturbed.is_ok() {
        thread::sleep(after.saturating_sub(since.elapsed()));
    }
    // Ended in any case: a tracker that goes on would disturb what comes next.
    let ended = session.end_track(tracking, since);
    disturbed?;
    let (points, missing) = ended?;
    Ok(Recording { points, missing })
}

/// Between two readings of a recording of this span: all of them fit into its answer, with a tenth to
/// spare for a disturbance that takes its time.
fn pace(span: Duration) -> Duration {
    let room = u32::try_from(TRACK_POINTS_MAX * 9 / 10).unwrap_or(u32::MAX);
    EVERY_MIN.max(span / room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_fits_into_its_answer() {
        for seconds in [1, 30, 60, 3_600] {
            let span = Duration::from_secs(seconds);
            let points = span.as_millis() / pace(span).as_millis();
            assert!(points <= TRACK_POINTS_MAX as u128, "{seconds} s: {points}");
        }
        assert_eq!(pace(Duration::from_secs(1)), EVERY_MIN);
    }
}
