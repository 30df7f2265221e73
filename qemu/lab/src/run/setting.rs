//! The machine that a fault needs.

use noonmark_contract::sample::Source;
use noonmark_qemu::nic::PHC_NAME;
use noonmark_qemu::{Boot, Config, Device};

use crate::fault::Setting;

use super::outcome::{NicGuest, Trouble};

/// The machine of a setting.
pub(crate) fn configured(
    base: &Config,
    nic_guest: &NicGuest,
    setting: Setting,
) -> Result<Config, Trouble> {
    let mut config = base.clone();
    match (setting, &mut config.boot) {
        (Setting::Plain, _) => {}
        (Setting::HostSource, Boot::Direct { cmdline, .. }) => {
            // The kernel's own parameter: the guest is the same, but for one driver.
            cmdline.push_str(" module_blacklist=ptp_kvm");
        }
        (Setting::HostSource, Boot::Uefi { .. }) => {
            let why = "a machine that boots a disk gets its command line from there";
            return Err(Trouble::Refused(why.to_owned()));
        }
        (Setting::Devices, _) => {
            let guid = "auto".to_owned();
            config
                .devices
                .extend([Device::VmGenId { guid }, Device::VmClock]);
        }
        (Setting::Nic, boot) => {
            *boot = nic_guest.clone().map_err(Trouble::Refused)?;
            config.devices.push(Device::NicSlot);
        }
    }
    Ok(config)
}

/// The source that a setting's guest must follow, where that is what the setting is about.
pub(crate) fn wanted_source(setting: Setting) -> Option<Source> {
    match setting {
        Setting::HostSource => Some(Source::Host),
        Setting::Nic => Some(Source::Phc(PHC_NAME.to_owned())),
        Setting::Plain | Setting::Devices => None,
    }
}
