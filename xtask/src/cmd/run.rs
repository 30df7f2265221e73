//! `run`: boots the base image and tells how its clock is until it is stopped.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use noonmark_builder::image::Variant;
use noonmark_builder::progress;
use noonmark_builder::workspace::Workspace;
use noonmark_contract::record::{Record, Status};
use noonmark_image::build::DISK;
use noonmark_image::spec::Spec;
use noonmark_qemu::firmware;
use noonmark_qemu::hub::Feed;
use noonmark_qemu::signals;
use noonmark_qemu::vm::config::{Boot, Config, Device, Forward, Rtc};
use noonmark_qemu::vm::error::MachineError;
use noonmark_qemu::vm::machine::Machine;
use noonmark_qemu::vm::power::PowerOff;

use crate::cmd::options::{MachineOptions, SpecFile, direct_boot};
use crate::status::text;

/// How long Ctrl-C may wait to be noticed.
const GLANCE: Duration = Duration::from_millis(250);

/// Boots the guest image and shows how its clock is, until Ctrl-C powers it off.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask run --console")]
pub struct RunCommand {
    #[command(flatten)]
    spec: SpecFile,
    #[command(flatten)]
    machine: MachineOptions,
    /// What `cargo xtask status --vm` calls the machine.
    #[arg(long, value_name = "NAME", default_value = "run")]
    name: String,
    /// How it boots: direct has QEMU load kernel and initrd, uefi boots the disk by firmware.
    #[arg(long, value_enum, default_value_t = BootBy::Direct)]
    boot: BootBy,
    /// UEFI firmware, variables and code in one file [default: the distribution's OVMF, else one
    /// that noonmark carries along].
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// Let a TCP port of this host's loopback lead to one of the guest's; may be repeated.
    #[arg(long, value_name = "HOST:GUEST")]
    forward: Vec<Forward>,
    /// A disk to attach, read-only, by which the instance is configured: one of `cargo xtask seed`,
    /// or any other NoCloud disk.
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// A disk to attach, raw and writable, e.g. for a `[[mount]]` of the image; may be repeated.
    /// Make one with `truncate -s 64M data.img && mkfs.ext4 -L data data.img`.
    #[arg(long, value_name = "FILE")]
    disk: Vec<PathBuf>,
    /// Show the guest's console.
    #[arg(long)]
    console: bool,
    /// Power the guest off as soon as its clock is right, e.g. to time a boot.
    #[arg(long)]
    until_synced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BootBy {
    Direct,
    Uefi,
}

impl RunCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let (host, image) = self.machine.prepare(workspace, &self.spec, Variant::Base)?;
        let size = self.machine.size(&image.spec.vm);
        let boot = match self.boot {
            BootBy::Direct => direct_boot(&image)?,
            BootBy::Uefi => {
                let firmware = firmware::find(self.firmware.as_deref(), &workspace.firmware())?;
                progress::note(format!("firmware {}", firmware.code.display()));
                Boot::Uefi {
                    disk: image.folder.join(DISK),
                    code: firmware.code,
                    vars: firmware.vars,
                }
            }
        };
        let mut devices = network(&image.spec, self.forward)?;
        if let Some(seed) = &self.seed {
            fs::metadata(seed).with_context(|| format!("cannot read {}", seed.display()))?;
            devices.push(Device::Disk {
                path: seed.clone(),
                writable: false,
            });
        }
        for disk in &self.disk {
            fs::metadata(disk).with_context(|| format!("cannot read {}", disk.display()))?;
            devices.push(Device::Disk {
                path: disk.clone(),
                writable: true,
            });
        }
        let step = progress::step("the guest boots");
        let mut machine = Machine::start(
            &host.qemu,
            Config {
                name: self.name,
                accelerator: host.decision.accelerator,
                vcpus: size.vcpus,
                memory_mib: size.memory_mib,
                boot,
                rtc: Rtc::HostUtc,
                time_channel: true,
                test_port: false,
                devices,
            },
        )?;
        if self.console {
            machine.follow_console(Box::new(|bytes| {
                // The console must not stop because nobody looks at it any more.
                let _ = io::stdout()
                    .write_all(bytes)
                    .and_then(|()| io::stdout().flush());
            }));
        }
        let feed = machine.feed();
        let status = machine.wait_synced(&feed, |record| {
            if let Record::Event(event) = record {
                progress::note(event.event.to_string());
            }
        })?;
        step.vanish();
        progress::note(format!(
            "synced {:.2} s after QEMU's start",
            machine.started().elapsed().as_secs_f64()
        ));
        if !self.until_synced {
            watch(&mut machine, &feed, &status)?;
        }
        power_off(machine)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Shows how the clock is, until Ctrl-C.
///
/// # Errors
///
/// The guest or its QEMU died.
pub fn watch(machine: &mut Machine, feed: &Feed, first: &Status) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let _soft = signals::soften(move || asked.store(true, Ordering::Relaxed));
    progress::note("Ctrl-C powers the guest off");
    let live = progress::live(text::line(first, None));
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        match machine.record(feed, "the next status record", Instant::now() + GLANCE) {
            Ok(Record::Status(status)) => live.update(text::line(&status, last.as_deref())),
            Ok(Record::Event(event)) => {
                let event = event.event.to_string();
                progress::note(&event);
                last = Some(event);
            }
            // Silence is no fault here: the interval is the image's choice.
            Err(MachineError::Deadline { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    live.vanish();
    Ok(())
}

/// Ends the guest in its own way, and says how that went.
///
/// # Errors
///
/// QEMU can't be ended.
pub fn power_off(machine: Machine) -> Result<()> {
    let step = progress::step("the guest powers off");
    let how = machine.power_off()?;
    step.done(match how {
        PowerOff::Guest => "the guest powered off",
        PowerOff::Button => {
            "the guest did not answer the request, and powered off by its power button"
        }
        PowerOff::Quit => "the guest did not power off in time; QEMU was told to quit",
        PowerOff::Killed => "neither the guest nor QEMU ended in time; QEMU was killed",
    });
    Ok(())
}

/// The NIC of an image that has a network.
fn network(spec: &Spec, forwards: Vec<Forward>) -> Result<Vec<Device>> {
    match (spec.wants_network(), forwards.is_empty()) {
        (true, _) => Ok(vec![Device::Net { forwards }]),
        (false, true) => Ok(Vec::new()),
        (false, false) => bail!(
            "--forward leads nowhere: the image has no network; add [[network.interface]] with \
             dhcp4 = true to its description"
        ),
    }
}
