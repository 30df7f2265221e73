//! Boots of real guests, one after the other, on each QEMU that this machine offers.
//!
//! On the QEMU of `NOONMARK_QEMU` (else the distribution's, with KVM where it is sure to work), and
//! on the distribution's with plain emulation, where ptp_kvm cannot load and the host's time
//! channel takes over. What a machine can't offer is found out by booting, and listed as not run.

mod agent;
mod appliance;
mod bench;
mod boot;
mod clockbound;
mod disks;
mod faults;
mod firstread;
mod freeze;
mod hostile;
mod interfaces;
mod intruder;
mod lifetime;
mod nested;
mod notify;
mod ntp;
mod nts;
mod platform;
mod power;
mod recovery;
mod run;
mod seed;
mod services;
mod snapshot;
mod trial;
mod truth;
mod utc;
mod watchdog;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(run::ARGUMENT) {
        return match words.next().unwrap_or_default().as_str() {
            interfaces::LOOK => interfaces::look(),
            job => run::be_the_command(job),
        };
    }
    let mut arguments = Arguments::from_args();
    // Machines that run at once starve each other's timer calibration.
    arguments.test_threads = Some(1);
    let trials = if arguments.list {
        trial::names()
    } else {
        match trial::plan(&arguments) {
            Ok(trials) => trials,
            Err(error) => {
                eprintln!("error: no machine can be tested: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}
