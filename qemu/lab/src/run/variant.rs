//! The machine that a fault needs.

use noonmark_contract::sample::Source;
use noonmark_qemu::nic::PHC_NAME;
use noonmark_qemu::{Boot, Config, Device};

use crate::fault::MachineVariant;

use super::outcome::{NicGuest, SampleError};

/// The machine of a variant.
pub(crate) fn configured(
    base: &Config,
    nic_guest: &NicGuest,
    variant: MachineVariant,
) -> Result<Config, SampleError> {
    let mut config = base.clone();
    match (variant, &mut config.boot) {
        (MachineVariant::Plain, _) => {}
        (MachineVariant::HostSource, Boot::Direct { cmdline, .. }) => {
            // The kernel's own parameter: the guest is the same, but for one driver.
            cmdline.push_str(" module_blacklist=ptp_kvm");
        }
        (MachineVariant::HostSource, Boot::Uefi { .. }) => {
            let why = "a machine that boots a disk gets its command line from there";
            return Err(SampleError::Refused(why.to_owned()));
        }
        (MachineVariant::Devices, _) => {
            let guid = "auto".to_owned();
            config
                .devices
                .extend([Device::VmGenId { guid }, Device::VmClock]);
        }
        (MachineVariant::Nic, boot) => {
            *boot = nic_guest.clone().map_err(SampleError::Refused)?;
            config.devices.push(Device::NicSlot);
        }
    }
    Ok(config)
}

/// The source that a variant's guest must follow, where that is what the variant is about.
pub(crate) fn wanted_source(variant: MachineVariant) -> Option<Source> {
    match variant {
        MachineVariant::HostSource => Some(Source::Host),
        MachineVariant::Nic => Some(Source::Phc(PHC_NAME.to_owned())),
        MachineVariant::Plain | MachineVariant::Devices => None,
    }
}
