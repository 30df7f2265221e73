//! The host's clock as this program itself reads it, by ptp_kvm: it owes nothing to the program that
//! keeps the guest's clock, nor to the line that this program measures faults against.

use std::path::Path;

use noonmark_contract::sample::{Method, Reading, Source};
use noonmark_contract::testport::HostError;
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;
use noonmark_linux::phc::probing::Probing;
use noonmark_linux::phc::{self, Phc};

/// Of so many readings the one with the tightest bound counts.
const READINGS: usize = 5;

/// How often a device that is not there is looked for again without being asked to: the look takes
/// a while in which the clock is not read.
const LOOK_AGAIN: Nanos = Nanos::from_secs(10);

/// The guest's ptp_kvm, opened when it is first needed and kept open.
#[derive(Debug, Default)]
pub struct Reference {
    phc: Option<Phc>,
    look_at: Option<Raw>,
    why_none: String,
}

impl Reference {
    /// Looks for the device, where it is not known yet.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn find(&mut self) -> Result<(), String> {
        if self.phc.is_none() {
            self.look();
        }
        match self.phc {
            Some(_) => Ok(()),
            None => Err(self.why_none.clone()),
        }
    }

    /// One reading by `PTP_SYS_OFFSET_PRECISE`; a worse method's error would be taken for the
    /// clock's. None where the device is not there, or refuses.
    pub fn precise(&mut self) -> Option<Reading> {
        let now = clocks::raw();
        let phc = self.open(now)?;
        match phc.read(now) {
            Ok(reading) if reading.method == Method::Precise => Some(reading),
            Ok(_) => {
                // It may be refused in a moment alone: while the machine moves, for example.
                phc.forget_method();
                None
            }
            Err(_) => {
                self.phc = None;
                None
            }
        }
    }

    /// How far the guest's clock is from the host's; none where that can't be read.
    pub fn error(&mut self) -> Option<HostError> {
        let readings = (0..READINGS).filter_map(|_| self.precise());
        readings
            .min_by_key(|reading| reading.bound)
            .map(|reading| error(&reading))
    }

    fn open(&mut self, now: Raw) -> Option<&mut Phc> {
        if self.phc.is_none() && self.look_at.is_none_or(|at| now >= at) {
            self.look();
        }
        self.phc.as_mut()
    }

    fn look(&mut self) {
        let (found, problems) = phc::discover(
            Path::new(phc::CLASS),
            Path::new("/dev"),
            &[Source::Kvm],
            &Probing::default(),
        );
        self.phc = found.into_iter().next();
        self.why_none = why_none(&problems);
        self.look_at = Some(clocks::raw() + LOOK_AGAIN);
    }
}

/// The clock's error in a reading.
pub fn error(reading: &Reading) -> HostError {
    HostError {
        error_ns: reading.realtime - reading.reference,
        bound_ns: reading.bound,
    }
}

fn why_none(problems: &[String]) -> String {
    if problems.is_empty() {
        "it takes KVM, and a host whose own clocksource is the TSC".into()
    } else {
        problems.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Utc;

    use super::*;

    #[test]
    fn a_machine_without_ptp_kvm_is_told_so() {
        let error = why_none(&[]);
        assert!(error.contains("clocksource"), "{error}");
        let error = why_none(&["/dev/ptp0 (KVM virtual PTP): Permission denied".into()]);
        assert!(error.contains("/dev/ptp0"), "{error}");
    }

    #[test]
    fn a_clock_that_is_ahead_has_a_positive_error() {
        let reading = Reading {
            source: Source::Kvm,
            method: Method::Precise,
            reference: Utc(1_000),
            realtime: Utc(1_072),
            raw: Raw(5),
            bound: Nanos(10),
        };
        let error = error(&reading);
        assert_eq!((error.error_ns, error.bound_ns), (Nanos(72), Nanos(10)));
    }
}
