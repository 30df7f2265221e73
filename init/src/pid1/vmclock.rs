//! The loop's part for the machine's VMClock, which tells of disruptions.

use noonmark_contract::record::DetectedBy;
use noonmark_sync::engine::Input;
use rustix::io::Errno;

use crate::clock::vmclock::VmClock;

use super::Pid1;
use super::events::Watched;

impl Pid1 {
    /// Whether the machine's VMClock tells of a disruption, which has then been dealt with.
    pub(super) fn check_vmclock(&mut self) -> bool {
        let vmclock = self.discipline.vmclock_mut();
        let disrupted = vmclock.is_some_and(VmClock::take_disruption);
        if disrupted && self.boot_wait.is_none() {
            self.discipline.distrust();
            self.discipline.drive(Input::Wake(DetectedBy::Vmclock));
            self.on_resume();
        }
        disrupted
    }

    /// The VMClock notified of a change, which the look at each wake has dealt with already.
    pub(super) fn on_vmclock(&mut self) {
        let Some(vmclock) = self.discipline.vmclock_mut() else {
            return;
        };
        if let Err(errno) = vmclock.acknowledge() {
            // It would be ready for ever; the marker is still compared at each wake.
            let why = format!("{}: {errno}; it is waited on no longer", vmclock.node());
            if let Some(descriptor) = vmclock.descriptor() {
                // What can't be taken out of the queue was never in it.
                let _ = self.queue.forget(descriptor);
            }
            self.report_failure(why);
        }
    }

    /// Looks for the VMClock, and waits on it where it notifies. Where the kernel is too old to poll
    /// it (EPERM), its marker is compared at each wake all the same.
    pub(super) fn rescan_vmclock(&mut self) {
        let new = self.discipline.rescan_vmclock();
        let watched = match new.and_then(VmClock::descriptor) {
            Some(descriptor) => self.queue.watch(Watched::VmClock, descriptor),
            None => Ok(()),
        };
        if let Err(errno) = watched
            && errno != Errno::PERM
        {
            self.report_failure(format!("waiting for the VMClock: {errno}"));
        }
    }
}
