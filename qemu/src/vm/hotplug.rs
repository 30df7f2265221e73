//! A NIC that is plugged into the running machine, and out of it: an Intel 82576 (`igb`), which has
//! a PHC of its own, as a NIC that is passed through to a guest has.
//!
//! Its PHC counts the machine's own time (hw/net/igb_core.c), from what the guest's clock says when
//! its driver starts it (drivers/net/ethernet/intel/igb/igb_ptp.c, `igb_ptp_reset`). Nothing
//! corrects it after that, so it is a reference for as long as an experiment takes, not for ever.

use std::time::Instant;

use serde_json::json;

use super::error::MachineError;
use super::machine::Machine;

/// The slot's name in QMP; the machine has it by [`Device::NicSlot`](super::config::Device::NicSlot).
pub const SLOT: &str = "nic-slot";

/// The name of the NIC's PHC in the guest: the driver takes its hardware address.
pub const PHC_NAME: &str = "525400127001";

/// The kernel module that drives it.
pub const DRIVER: &str = "igb";

/// The NIC's hardware address, of QEMU's own range.
const ADDRESS: &str = "52:54:00:12:70:01";

/// The NIC's name in QMP.
const NIC: &str = "nic";

/// QEMU tells by this event that the guest has let go of a device.
const DELETED: &str = "DEVICE_DELETED";

impl Machine {
    /// Plugs the NIC into its slot; the guest finds it there some time later.
    ///
    /// # Errors
    /// Where QEMU has no such NIC, or the machine no slot, or the NIC is there already.
    pub fn plug_nic(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + self.patience().answer();
        let arguments = json!({"driver": DRIVER, "id": NIC, "bus": SLOT, "mac": ADDRESS});
        self.qmp().execute("device_add", arguments, deadline)?;
        Ok(())
    }

    /// Asks the guest to let go of the NIC, as a host does before it takes it away.
    ///
    /// # Errors
    /// Where there is none, or the last request is still under way.
    pub fn unplug_nic(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + self.patience().answer();
        self.qmp().forget(DELETED);
        self.qmp()
            .execute("device_del", json!({"id": NIC}), deadline)?;
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
            if event.data["device"] == NIC {
                return Ok(());
            }
        }
    }
}
