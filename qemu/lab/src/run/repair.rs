//! PID 1's own records of a disruption and its repair, joined with what the in-guest observer saw.

use noonmark_contract::record::{Cause, DetectedBy, Event};
use noonmark_contract::testport::Observation;
use noonmark_contract::units::Nanos;

use crate::report::Sample;
use crate::report::error::ClockError;

/// What PID 1's records say of a disruption.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RepairRecord {
    detected_by: Option<DetectedBy>,
    cause: Option<Cause>,
    took: Option<Nanos>,
}

impl RepairRecord {
    /// Whether nothing more is to come.
    pub(crate) fn is_complete(&self) -> bool {
        self.took.is_some()
    }

    /// Adds it to a sample.
    pub(crate) fn add_to(&self, sample: &mut Sample) {
        sample.detected_by = self.detected_by;
        sample.cause = self.cause;
        sample.repair_ns = self.took;
    }

    /// The first disruption counts, and the recovery that follows it.
    pub(crate) fn take(&mut self, event: &Event) {
        match *event {
            Event::Disrupted {
                cause, detected_by, ..
            } if self.cause.is_none() => {
                self.cause = Some(cause);
                self.detected_by = Some(detected_by);
            }
            Event::Recovered { took_ns, .. } if self.cause.is_some() => self.took = Some(took_ns),
            _ => {}
        }
    }
}

/// The sample that the observation and the record make together.
pub(crate) fn join(observation: &Observation, record: &RepairRecord) -> Sample {
    let mut sample = Sample {
        recovered_ns: observation.recovered_ns,
        wrong_reads: observation.wrong_reads,
        residual_ns: observation.residual_ns,
        residual_bound_ns: observation.residual_bound_ns,
        before: observation.before.map(ClockError::from),
        after: observation.after.map(ClockError::from),
        reads: observation.reads,
        worst_ns: observation.worst_ns,
        restored_ns: observation.restored_ns,
        trace: observation.trace.clone(),
        ..Sample::default()
    };
    record.add_to(&mut sample);
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disrupted(cause: Cause) -> Event {
        Event::Disrupted {
            cause,
            detected_by: DetectedBy::CancelOnSet,
            offset_ns: Nanos::from_secs(3600),
        }
    }

    fn recovered(took_us: i64) -> Event {
        Event::Recovered {
            cause: Cause::GuestStep,
            detected_by: DetectedBy::CancelOnSet,
            took_ns: Nanos::from_micros(took_us),
            residual_ns: Nanos(5),
            bound_ns: Nanos(50),
        }
    }

    #[test]
    fn the_first_disruption_and_the_recovery_after_it_count() {
        let mut record = RepairRecord::default();
        record.take(&recovered(1));
        assert!(!record.is_complete(), "it belongs to something earlier");
        record.take(&disrupted(Cause::GuestStep));
        record.take(&disrupted(Cause::Unknown));
        assert!(!record.is_complete());
        record.take(&recovered(400));
        assert!(record.is_complete());

        let sample = join(&Observation::default(), &record);
        assert_eq!(sample.cause, Some(Cause::GuestStep));
        assert_eq!(sample.detected_by, Some(DetectedBy::CancelOnSet));
        assert_eq!(sample.repair_ns, Some(Nanos::from_micros(400)));
    }

    #[test]
    fn without_records_a_sample_has_no_cause_made_up() {
        let observation = Observation {
            recovered_ns: Some(Nanos::from_micros(600)),
            wrong_reads: 3,
            ..Observation::default()
        };
        let sample = join(&observation, &RepairRecord::default());
        assert_eq!(
            (sample.cause, sample.detected_by, sample.repair_ns),
            (None, None, None)
        );
        assert_eq!(sample.recovered_ns, Some(Nanos::from_micros(600)));
        assert_eq!(sample.wrong_reads, 3);
    }
}
