//! The NIC that can be plugged into a running machine: an Intel 82576 (`igb`), which has a PHC of
//! its own, as a NIC that is passed through to a guest has.
//!
//! Its PHC counts the machine's own time (hw/net/igb_core.c), from what the guest's clock says when
//! its driver starts it (drivers/net/ethernet/intel/igb/igb_ptp.c, `igb_ptp_reset`). Nothing
//! corrects it after that, so it is a reference for as long as an experiment takes, not for ever.

/// The kernel module that drives it, and QEMU's name for the device.
pub const DRIVER: &str = "igb";

/// The name of its PHC in the guest: the driver takes the hardware address.
pub const PHC_NAME: &str = "525400127001";

/// Its hardware address, of QEMU's own range.
pub(super) const ADDRESS: &str = "52:54:00:12:70:01";

/// Its name in QMP.
pub(super) const ID: &str = "nic";

/// The name in QMP of the slot for it, which the machine has by
/// [`Device::NicSlot`](crate::Device::NicSlot).
pub(super) const SLOT: &str = "nic-slot";
