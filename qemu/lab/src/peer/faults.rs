//! A plan's faults in guests whose clock a peer keeps, over as many boots as they take.

use noonmark_qemu::accel::Decision;

use crate::fault::{Action, Fault, Plan};
use crate::report::Sample;
use crate::run::recorder::Recorder;
use crate::run::{ExperimentError, Outcome, Progress, SampleError};

use super::guest::{Boot, Guest, Keeper};

/// Does the plan's faults. A clock that did not get right is not disturbed again: the next sample
/// is taken in a fresh boot.
///
/// Whatever happens, what was measured until then is in the outcome's report, and what was not
/// done is listed there with the reason.
pub fn run(
    boot: &mut Boot<'_>,
    keeper: &Keeper,
    plan: &Plan,
    accelerator: &Decision,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Outcome {
    let mut experiment = Faults {
        boot,
        keeper,
        plan,
        recorder: Recorder::new(plan, accelerator, progress),
        guest: None,
    };
    let mut faults = plan.faults.iter();
    let error = faults.find_map(|&fault| experiment.fault(fault).err());
    experiment.recorder.finish(error)
}

/// The faults, over as many boots as they take.
struct Faults<'a, 'b> {
    boot: &'a mut Boot<'b>,
    keeper: &'a Keeper,
    plan: &'a Plan,
    recorder: Recorder<'a>,
    /// None before the first fault, and after one that the peer did not repair.
    guest: Option<Guest<'a>>,
}

impl Faults<'_, '_> {
    fn fault(&mut self, fault: Fault) -> Result<(), ExperimentError> {
        match self.samples(fault) {
            Ok(()) => Ok(()),
            Err(SampleError::Fatal(error)) => Err(error),
            Err(SampleError::Refused(reason)) => {
                self.recorder.skip(fault, reason);
                Ok(())
            }
        }
    }

    fn samples(&mut self, fault: Fault) -> Result<(), SampleError> {
        self.recorder.begin(fault);
        for number in self.plan.numbers(fault) {
            let sample = self.sample(fault, number)?;
            self.recorder.add(fault, sample);
        }
        Ok(())
    }

    /// Does a fault once, in the guest that is there or in a new one.
    fn sample(&mut self, fault: Fault, number: u32) -> Result<Sample, SampleError> {
        if matches!(fault.profile().action, Action::Source(_)) {
            let why =
                "it is done to a source that only noonmark follows; peers follow ptp_kvm alone";
            return Err(SampleError::Refused(why.to_owned()));
        }
        self.guest = self.guest.take().filter(|guest| guest.suits(fault));
        let guest = match &mut self.guest {
            Some(guest) => guest,
            empty => {
                let new = Guest::boot(self.boot, self.keeper, fault.machine())?;
                new.describe(&mut self.recorder.report);
                empty.insert(new)
            }
        };
        let sampled = guest.sample(fault, self.plan, number);
        // Of several boots the one that had to wait most is told.
        let waited = &mut self.recorder.report.host.qemu_waited_share;
        *waited = [*waited, guest.waited()]
            .into_iter()
            .flatten()
            .reduce(f64::max);
        if !matches!(&sampled, Ok(sample) if sample.recovered_ns.is_some()) {
            self.guest = None;
        }
        sampled
    }
}
