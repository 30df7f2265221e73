//! The host's clock as this program itself reads it, by ptp_kvm: it owes nothing to the program that
//! keeps the guest's clock, nor to the line that this program measures faults against.

use std::path::Path;

use noonmark_contract::sample::{Method, Reading, Source};
use noonmark_contract::testport::HostError;
use noonmark_linux::clocks;
use noonmark_linux::phc::probing::Probing;
use noonmark_linux::phc::{self, Phc};

/// Of so many readings the one with the tightest bound counts.
const READINGS: usize = 5;

/// The guest's ptp_kvm; where there is none, why.
///
/// # Errors
/// What keeps it from being read.
pub fn find() -> Result<Phc, String> {
    let (found, problems) = phc::discover(
        Path::new(phc::CLASS),
        Path::new("/dev"),
        &[Source::Kvm],
        &Probing::default(),
    );
    found.into_iter().next().ok_or_else(|| why_none(&problems))
}

/// One reading by `PTP_SYS_OFFSET_PRECISE`; a worse method's error would be taken for the clock's.
pub fn precise(phc: &mut Phc) -> Option<Reading> {
    let reading = phc.read(clocks::raw()).ok()?;
    (reading.method == Method::Precise).then_some(reading)
}

/// How far the guest's clock is from the host's; none where that can't be read.
pub fn error(phc: &mut Phc) -> Option<HostError> {
    let readings = (0..READINGS).filter_map(|_| precise(phc));
    let tightest = readings.min_by_key(|reading| reading.bound)?;
    Some(HostError {
        error_ns: tightest.realtime - tightest.reference,
        bound_ns: tightest.bound,
    })
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
    use super::*;

    #[test]
    fn a_machine_without_ptp_kvm_is_told_so() {
        let error = why_none(&[]);
        assert!(error.contains("clocksource"), "{error}");
        let error = why_none(&["/dev/ptp0 (KVM virtual PTP): Permission denied".into()]);
        assert!(error.contains("/dev/ptp0"), "{error}");
    }
}
