//! A plan's faults in guests whose clock a peer keeps, over as many boots as they take.

use noonmark_contract::units::Nanos;
use noonmark_qemu::accel::Decision;

use crate::fault::{Action, Fault, Plan};
use crate::report::Sample;
use crate::run::course::{self, Guests};
use crate::run::recorder::Recorder;
use crate::run::{Outcome, Progress, SampleError};

use super::guest::{Boot, Guest, Keeper, RIGHT_SHARE};

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
        boots: 0,
    };
    let error = course::run(&mut experiment).err();
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
    /// How many guests have been booted.
    boots: u32,
}

impl<'a> Guests<'a> for Faults<'a, '_> {
    fn recorder(&mut self) -> &mut Recorder<'a> {
        &mut self.recorder
    }

    /// The guest that is there, or a new one.
    fn enter(&mut self, fault: Fault) -> Result<(), SampleError> {
        if matches!(fault.profile().action, Action::Source(_)) {
            let why =
                "it is done to a source that only noonmark follows; peers follow ptp_kvm alone";
            return Err(SampleError::Refused(why.to_owned()));
        }
        if self.guest.as_ref().is_some_and(|guest| guest.suits(fault)) {
            return Ok(());
        }
        self.guest = None;
        let mut new = Guest::boot(self.boot, self.keeper, fault.machine())?;
        self.boots += 1;
        let report = &mut self.recorder.report;
        new.describe(report);
        new.wait_right(Nanos(self.plan.tolerance.0 / RIGHT_SHARE))?;
        if report.synced.is_none() {
            let synced = new.ask(self.plan, |session| {
                let error = session.host_error(session.wanted_bound())?;
                Ok((error, session.error_limit))
            });
            let (error, limit) = synced?;
            (report.synced, report.error_limit_ns) = (Some(error), Some(limit));
        }
        self.guest = Some(new);
        Ok(())
    }

    fn sample(&mut self, fault: Fault, number: u32) -> Result<Sample, SampleError> {
        let Some(guest) = &mut self.guest else {
            return Err(SampleError::Refused("no guest was booted".to_owned()));
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
        sampled.map(|sample| Sample {
            boot: self.boots,
            ..sample
        })
    }
}
