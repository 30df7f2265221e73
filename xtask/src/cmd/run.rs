//! `run`: boots the base image and shows how its clock is until it is stopped.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use noonmark_builder::image::Variant;
use noonmark_builder::progress;
use noonmark_builder::workspace::Workspace;
use noonmark_image::artifact::DISK;
use noonmark_image::spec::Spec;
use noonmark_qemu::{Boot, Config, Credential, Device, Forward, Machine, firmware};

use crate::guest;
use crate::nested::{self, Errand, Stop};
use crate::options::{Host, MachineOptions, SpecFile};

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
    #[arg(long = "seed", value_name = "FILE")]
    seed_disk: Option<PathBuf>,
    /// What systemd calls a credential, for an image with `[seed] enabled`: a document of a seed as
    /// noonmark.user-data, noonmark.meta-data, noonmark.network-config or noonmark.vendor-data, or
    /// system.hostname; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    credential: Vec<Credential>,
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
        let machine = if self.disk.is_empty() {
            self.machine
        } else {
            let why =
                "--disk is written to, and an emulated host can write nothing of this machine";
            self.machine.without_nested(why)?
        };
        let (host, image) = machine.prepare(workspace, &self.spec, Variant::Base)?;
        let size = machine.size(&image.spec.vm);
        let boot = match self.boot {
            BootBy::Direct => guest::direct_boot(&image)?,
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
        let forwards = self.forward.clone();
        let mut devices = network(&image.spec, self.forward)?;
        if let Some(seed) = &self.seed_disk {
            fs::metadata(seed).with_context(|| format!("cannot read {}", seed.display()))?;
            devices.push(Device::Disk {
                path: seed.clone(),
                writable: false,
            });
        }
        devices.extend(self.credential.into_iter().map(Device::Credential));
        for disk in &self.disk {
            fs::metadata(disk).with_context(|| format!("cannot read {}", disk.display()))?;
            devices.push(Device::Disk {
                path: disk.clone(),
                writable: true,
            });
        }
        if host.is_elsewhere() {
            let spec_file = self.spec.path(workspace);
            let errand = Errand::new(workspace, &host, &self.name, size.memory_mib, spec_file)
                .input(&image.folder)
                .forwards(forwards)
                .stop(Stop::Asked);
            let files = self.seed_disk.iter().chain(&self.firmware);
            return nested::run(&files.fold(errand, Errand::input));
        }
        let step = progress::step("the guest boots");
        let mut machine = Machine::start(
            &host.qemu,
            Config {
                devices,
                ..host.machine(&self.name, &size, boot)
            },
        )?;
        if self.console {
            machine.follow_console(Box::new(|bytes| {
                // The guest's console goes on where standard output is closed.
                let _ = io::stdout()
                    .write_all(bytes)
                    .and_then(|()| io::stdout().flush());
            }));
        }
        let records = machine.subscribe();
        let status = guest::wait_synced(&mut machine, &records)?;
        step.vanish();
        progress::note(format!(
            "synced {:.2} s after QEMU's start",
            machine.started().elapsed().as_secs_f64()
        ));
        if !self.until_synced {
            guest::watch(&mut machine, &records, &status)?;
        }
        guest::power_off(machine)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The NIC of an image that has a network.
fn network(spec: &Spec, forwards: Vec<Forward>) -> Result<Vec<Device>> {
    match (spec.wants_network(), forwards.is_empty()) {
        (true, _) => Ok(vec![Host::network(forwards)]),
        (false, true) => Ok(Vec::new()),
        (false, false) => bail!(
            "--forward leads nowhere: the image has no network; add [[network.interface]] with \
             dhcp4 = true to its description"
        ),
    }
}
