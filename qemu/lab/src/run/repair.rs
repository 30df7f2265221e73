//! PID 1's own account of a disruption, joined with what the in-guest observer saw.

use noonmark_contract::record::{Cause, DetectedBy, Event};
use noonmark_contract::testport::Observation;
use noonmark_contract::units::Nanos;

use crate::report::Sample;

/// What PID 1 says of a disruption.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Account {
    detected_by: Option<DetectedBy>,
    cause: Option<Cause>,
    took: Option<Nanos>,
}

impl Account {
    /// Whether nothing more is to come.
    pub(crate) fn is_complete(&self) -> bool {
        self.took.is_some()
    }

    /// Adds it to a sample.
    pub(crate) fn tell(&self, sample: &mut Sample) {
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

/// The sample that the observation and the account make together.
pub(crate) fn join(observation: &Observation, account: &Account) -> Sample {
    let mut sample = Sample {
        recovered_ns: observation.recovered_ns,
        wrong_reads: observation.wrong_reads,
        residual_ns: observation.residual_ns,
        residual_bound_ns: observation.residual_bound_ns,
        reads: observation.reads,
        worst_ns: observation.worst_ns,
        restored_ns: observation.restored_ns,
        trace: observation.trace.clone(),
        ..Sample::default()
    };
    account.tell(&mut sample);
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
        let mut account = Account::default();
        account.take(&recovered(1));
        assert!(!account.is_complete(), "it belongs to something earlier");
        account.take(&disrupted(Cause::GuestStep));
        account.take(&disrupted(Cause::Unknown));
        assert!(!account.is_complete());
        account.take(&recovered(400));
        assert!(account.is_complete());

        let sample = join(&Observation::default(), &account);
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
        let sample = join(&observation, &Account::default());
        assert_eq!(
            (sample.cause, sample.detected_by, sample.repair_ns),
            (None, None, None)
        );
        assert_eq!(sample.recovered_ns, Some(Nanos::from_micros(600)));
        assert_eq!(sample.wrong_reads, 3);
    }
}
