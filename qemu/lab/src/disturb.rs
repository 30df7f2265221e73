//! Taking one sample, whatever the fault: each family has its own way to be done and timed.

use fastrand::Rng;
use noonmark_qemu::vm::config::{Boot, Config, Device};

use super::fault::{Family, Fault, Setting};
use super::plan;
use super::report::Sample;
use super::run::NicGuest;
use super::session::{Session, Trouble};
use super::{guest, pause, source};

/// Does a fault once, and measures what became of the clock.
pub(super) fn sample(
    session: &mut Session<'_>,
    fault: Fault,
    random: &mut Rng,
) -> Result<Sample, Trouble> {
    match fault {
        Fault::Combined => {
            let drawn = plan::random_fault(random);
            let sample = of_family(session, drawn, random)?;
            let detail = drawn.to_string();
            Ok(Sample { detail, ..sample })
        }
        fault => of_family(session, fault, random),
    }
}

fn of_family(session: &mut Session<'_>, fault: Fault, random: &mut Rng) -> Result<Sample, Trouble> {
    match fault.family() {
        Family::Pause | Family::Restore | Family::Migrate => pause::sample(session, fault),
        Family::SourceLoss | Family::Liar => source::sample(session, fault),
        _ => guest::sample(session, fault, random),
    }
}

/// The machine of a setting.
pub(super) fn configured(
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
