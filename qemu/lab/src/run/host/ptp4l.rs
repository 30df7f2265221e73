//! ptp4l as the keeper of the emulated host's clock, after a grandmaster at the other end of a cable,
//! both with software time stamps: the noise of these is what its servo steers by.

use std::fs;
use std::time::{Duration, Instant};

use noonmark_linux::sys;
use noonmark_qemu::CABLE_MACS;

use super::clock::{self, RestoredRate};
use super::program::Program;

const PTP4L: &str = "/usr/sbin/ptp4l";

/// Where the kernel lists interfaces.
const INTERFACES: &str = "/sys/class/net";

/// Lets a client follow a grandmaster for `span`. Both ends of the cable are this host's: PTP on Ethernet
/// takes its time stamps at the ends, whoever owns them.
pub(super) fn follow(span: Duration) -> Result<(), String> {
    let began = Instant::now();
    let _restored = RestoredRate::after_program();
    let _grandmaster = start("master", CABLE_MACS[0], "")?;
    let client = start("client", CABLE_MACS[1], "slaveOnly 1\n")?;
    client.run_for(span.saturating_sub(began.elapsed() + Duration::from_secs(1)))?;
    if clock::is_untouched()? {
        return Err(format!(
            "ptp4l did not follow its grandmaster: {}",
            client.last_words()
        ));
    }
    Ok(())
}

fn start(role: &str, mac: &str, options: &str) -> Result<Program, String> {
    let end = interface(mac)?;
    sys::interface_up(&end).map_err(|errno| format!("{end}: {errno}"))?;
    let file = format!("/run/ptp4l-{role}.conf");
    let text = format!(
        "[global]\nnetwork_transport L2\ntime_stamping software\n{options}\
         uds_address /run/ptp4l-{role}\n[{end}]\n"
    );
    Program::start(PTP4L, &["-f", &file, "-m", "-q"], (&file, &text))
}

/// The interface with this hardware address.
fn interface(mac: &str) -> Result<String, String> {
    let listed = fs::read_dir(INTERFACES).map_err(|error| format!("{INTERFACES}: {error}"))?;
    for entry in listed.flatten() {
        let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if address.trim() == mac {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Err(format!("the emulated host has no interface {mac}"))
}
