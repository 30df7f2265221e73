//! Plugging the NIC with a PHC ([`nic`]) into the running machine, and unplugging it.

use std::time::Instant;

use serde_json::json;

use super::error::MachineError;
use super::machine::Machine;
use super::nic;

/// QEMU tells by this event that the guest has let go of a device.
const DELETED: &str = "DEVICE_DELETED";

impl Machine {
    /// Plugs the NIC into its slot; the guest finds it there some time later.
    ///
    /// # Errors
    /// Where QEMU has no such NIC, or the machine no slot, or the NIC is there already.
    pub fn plug_nic(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + self.timeouts().answer();
        let arguments = json!({
            "driver": nic::DRIVER, "id": nic::ID, "bus": nic::SLOT, "mac": nic::ADDRESS,
        });
        self.qmp().execute("device_add", arguments, deadline)?;
        Ok(())
    }

    /// Asks the guest to let go of the NIC, as a host does before it takes it away.
    ///
    /// # Errors
    /// Where there is none, or the last request is still under way.
    pub fn unplug_nic(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + self.timeouts().answer();
        self.qmp().forget(DELETED);
        self.qmp()
            .execute("device_del", json!({"id": nic::ID}), deadline)?;
        Ok(())
    }

    /// Waits until the NIC is gone after [`Machine::unplug_nic`].
    ///
    /// # Errors
    /// Where the guest does not let go of it before the deadline.
    pub fn wait_unplugged(&mut self, deadline: Instant) -> Result<(), MachineError> {
        loop {
            let event = self.qmp().wait_event(DELETED, deadline)?;
            // Parts of a device are told of too, without a name.
            if event.data["device"] == nic::ID {
                return Ok(());
            }
        }
    }
}
