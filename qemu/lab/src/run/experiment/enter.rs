//! The machine that a fault needs: started over with other devices, another source, another guest.

use std::time::Instant;

use noonmark_contract::record::Status;
use noonmark_contract::sample::Source;
use noonmark_qemu::MachineError;
use noonmark_qemu::qmp::QmpError;

use crate::fault::MachineVariant;
use crate::run::outcome::SampleError;
use crate::run::variant::{configured, wanted_source};

use super::Experiment;

impl Experiment<'_> {
    /// Brings the machine into the variant that a fault needs.
    pub(crate) fn become_variant(&mut self, variant: MachineVariant) -> Result<(), SampleError> {
        let follows = self.recorder.report.environment.source.as_ref();
        let same = variant == MachineVariant::HostSource && follows == Some(&Source::Host);
        let variant = if same { MachineVariant::Plain } else { variant };
        if self.variant == Some(variant) {
            return Ok(());
        }
        let config = configured(&self.config, self.nic_guest, variant)?;
        self.variant = None;
        match self.session.machine.restart_with(config) {
            Err(MachineError::Refused(cause)) => {
                return Err(SampleError::Refused(format!(
                    "this QEMU has no such machine: {cause}"
                )));
            }
            other => other?,
        }
        self.session.start_over();
        self.boot += 1;
        self.loaded = false;
        let mut status = self.session.wait_ready(self.recorder.progress)?;
        if let Some(wanted) = wanted_source(variant) {
            if variant == MachineVariant::Nic {
                self.plug_nic()?;
            }
            status = self.await_source(&wanted, status)?;
        }
        self.session.hold_to(&status);
        let environment = &self.recorder.report.environment;
        self.kernel =
            Some(status.kernel).filter(|kernel| environment.kernel.as_ref() != Some(kernel));
        self.source = status
            .source
            .filter(|source| Some(source) != self.recorder.report.environment.source.as_ref());
        self.variant = Some(variant);
        self.follow_process();
        Ok(())
    }

    fn plug_nic(&mut self) -> Result<(), SampleError> {
        match self.session.machine.plug_nic() {
            Err(MachineError::Qmp(QmpError::Refused { why, .. })) => Err(SampleError::Refused(
                format!("this QEMU has no NIC with a PHC to plug in: {why}"),
            )),
            other => Ok(other?),
        }
    }

    /// Waits until the guest follows `wanted`.
    fn await_source(&mut self, wanted: &Source, mut status: Status) -> Result<Status, SampleError> {
        let deadline = Instant::now() + self.session.machine.timeouts().sync();
        while status.source.as_ref() != Some(wanted) {
            if Instant::now() >= deadline {
                let follows = status
                    .source
                    .map_or_else(|| "none".into(), |s| s.to_string());
                let why = status.sources.into_iter().find(|s| s.source == *wanted);
                let why = why.and_then(|status| status.last_failure);
                return Err(SampleError::Refused(format!(
                    "the guest does not follow {wanted} but {follows} ({})",
                    why.unwrap_or_else(|| "is it in [clock] sources?".into())
                )));
            }
            status = self.session.next_status(deadline)?;
        }
        Ok(status)
    }
}
