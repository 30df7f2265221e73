//! `run`: boots the base image and shows how its clock is until it is stopped; or boots one for commands
//! and runs a command there.

mod command;
mod options;
mod plan;
mod share;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use noonmark_builder::image::Variant;
use noonmark_builder::progress;
use noonmark_builder::run::write_initrd;
use noonmark_builder::workspace::Workspace;
use noonmark_contract::agent;
use noonmark_image::artifact::{DISK, INITRD};
use noonmark_image::spec::Spec;
use noonmark_qemu::runtime_dir::RuntimeDir;
use noonmark_qemu::{Boot, Config, Credential, Device, Forward, Machine, firmware};

use crate::guest;
use crate::nested::{self, Errand, Stop};
use crate::options::{Host, MachineOptions, SpecFile};

use self::command::{Run, direct_boot};
use self::options::CommandOptions;
use self::plan::Plan;

/// The examples at the end of the help.
const EXAMPLES: &str = "\
Examples:
  cargo xtask run --console
      boots the image and shows its console and its clock
  cargo xtask run -- date -u
      runs this machine's date in a guest whose clock is right
  cargo xtask run --share . -- ./test.sh < input > output
      runs a script of the current folder there, with that folder shared
  cargo xtask run --share .:/src,ro --user 1000 --timeout 5m --json run.json -- /src/hello";

/// Boots the guest image and shows how its clock is, until Ctrl-C powers it off; or runs a command there.
///
/// A command gets an image of its own, which differs by the program that runs it and, with --share, by a
/// kernel that has 9p: the distribution's general one, where guest.toml names none.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
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
    /// Let a port of this host lead to one of the guest's, or a range to as many; on the host's loopback
    /// where no address is named; may be repeated.
    #[arg(long, value_name = "[ADDRESS:]HOST:GUEST[/udp]")]
    forward: Vec<Forward>,
    /// Put the guest's NIC on this bridge of the host's, in place of a network of QEMU's own.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["forward", "tap"])]
    bridge: Option<String>,
    /// Put the guest's NIC behind this tap interface of the host's.
    #[arg(long, value_name = "NAME", conflicts_with = "forward")]
    tap: Option<String>,
    /// A further argument of QEMU's, as it is, behind all others; may be repeated.
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    qemu_arg: Vec<OsString>,
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
    /// A socket to make, on which programs of this host speak to the guest agent of an image with
    /// `[agent] enabled`, as `socat - UNIX-CONNECT:FILE` does.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Show the guest's console.
    #[arg(long, conflicts_with = "command")]
    console: bool,
    /// Power the guest off as soon as its clock is right, e.g. to time a boot.
    #[arg(long, conflicts_with = "command")]
    until_synced: bool,
    #[command(flatten)]
    command: CommandOptions,
}

/// Where a folder shows that an interface is what it is taken for (Documentation/ABI/testing/sysfs-class-net).
const INTERFACES: &str = "/sys/class/net";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BootBy {
    Direct,
    Uefi,
}

impl RunCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        if !self.command.command.is_empty() {
            return self.run_command(workspace);
        }
        let machine = self.nesting()?;
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
        let devices = self.devices(&image.spec)?;
        if host.is_elsewhere() {
            let spec_file = self.spec.path(workspace);
            let errand = Errand::new(workspace, &host, &self.name, size.memory_mib, spec_file)
                .input(&image.folder)
                .forwards(self.forward)
                .stop(Stop::Asked);
            let files = self.seed_disk.iter().chain(&self.firmware);
            return nested::run(&files.fold(errand, Errand::input));
        }
        let step = progress::step("the guest boots");
        let mut machine = Machine::start(
            &host.qemu,
            Config {
                devices,
                more: self.qemu_arg,
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
    /// Runs the command, and gives its exit status.
    fn run_command(self, workspace: &Workspace) -> Result<ExitCode> {
        let began = Instant::now();
        if self.boot != BootBy::Direct {
            bail!(
                "a command runs in a guest that is booted directly; leave out --boot and --firmware"
            );
        }
        if let Some(file) = &self.command.json {
            let folder = file
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            if !folder.unwrap_or(Path::new(".")).is_dir() {
                bail!("--json {}: there is no such folder", file.display());
            }
        }
        if !self.command.verbose {
            progress::be_quiet();
        }
        let variant = Variant::Run {
            shares: !self.command.share.is_empty(),
            faults: false,
        };
        let machine = self.nesting()?;
        let (host, image) = machine.prepare(workspace, &self.spec, variant)?;
        // Before there is a runtime directory of this process: to the emulated host, that of whoever has
        // sent these files is one whose owner is gone, and goes.
        let sent = self.command.plan.as_deref().map(read_plan).transpose()?;
        let folder = RuntimeDir::create()?;
        let (plan, archive) = match sent {
            Some(sent) => sent,
            None => {
                let plan = Plan::new(&self.command, &image.spec, folder.join("archive"))?;
                let archive = read(&plan.archive)?;
                (plan, archive)
            }
        };
        let size = machine.size(&image.spec.vm);
        let devices = self.devices(&image.spec)?;
        if host.is_elsewhere() {
            let file = folder.join("plan.json");
            fs::write(&file, serde_json::to_vec(&plan)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
            let spec_file = self.spec.path(workspace);
            let shares = plan.program.shares.iter().zip(&plan.folders);
            let mut errand = Errand::new(workspace, &host, &self.name, size.memory_mib, spec_file)
                .input(&image.folder)
                .input(&plan.archive)
                .input(&file)
                .forwards(self.forward.clone())
                .arguments(["--plan".to_owned(), file.display().to_string()])
                .outputs(&self.command.json)
                .with_stdin()
                .stop(Stop::Asked);
            for (share, folder) in shares {
                errand = errand.share(&share.tag, folder, share.read_only);
            }
            return nested::run(&self.seed_disk.iter().fold(errand, Errand::input));
        }
        let initrd = folder.join("initrd");
        write_initrd(&archive, &image.folder.join(INITRD), &initrd)?;
        let boot = direct_boot(&image, initrd)?;
        let config = Config {
            command_ports: true,
            devices: devices.into_iter().chain(plan.devices()).collect(),
            more: self.qemu_arg.clone(),
            ..host.machine(&self.name, &size, boot)
        };
        Run::start(&self.command, began, &host, config, &plan)
    }

    /// The machine, in an emulated host only where that has all that is asked for.
    fn nesting(&self) -> Result<MachineOptions> {
        let machine = self.machine.clone();
        let named =
            |option| format!("{option} names what only this machine has, not an emulated host");
        if self.agent.is_some() {
            return machine.without_nested(
                "--agent makes a socket on this machine, and an emulated host has none of it",
            );
        }
        match (self.disk.is_empty(), &self.bridge, &self.tap) {
            (false, ..) => machine.without_nested(
                "--disk is written to, and an emulated host can write nothing of this machine",
            ),
            (_, Some(_), _) => machine.without_nested(&named("--bridge")),
            (_, _, Some(_)) => machine.without_nested(&named("--tap")),
            _ => Ok(machine),
        }
    }

    /// The devices that were asked for.
    fn devices(&self, spec: &Spec) -> Result<Vec<Device>> {
        let mut devices: Vec<Device> = self.network(spec)?.into_iter().collect();
        let disks = self.seed_disk.iter().map(|seed| (seed, false));
        let disk = |(path, writable): (&PathBuf, bool)| -> Result<Device> {
            fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.clone();
            Ok(Device::Disk { path, writable })
        };
        for seed in disks {
            devices.push(disk(seed)?);
        }
        devices.extend(self.credential.iter().cloned().map(Device::Credential));
        if spec.watchdog.is_some() {
            devices.push(Device::Watchdog);
        }
        for path in &self.disk {
            devices.push(disk((path, true))?);
        }
        if let Some(socket) = &self.agent {
            if !spec.agent.enabled {
                bail!(
                    "--agent: nobody in the guest would answer; set `enabled = true` in [agent] of its \
                     description"
                );
            }
            devices.push(Device::Port {
                name: agent::PORT.to_owned(),
                socket: std::path::absolute(socket)?,
            });
        }
        Ok(devices)
    }

    /// The NIC of an image that has a network.
    fn network(&self, spec: &Spec) -> Result<Option<Device>> {
        let forwards = self.forward.clone();
        let (option, nic) = match (&self.bridge, &self.tap) {
            (Some(name), _) => {
                check_interface("--bridge", name, "bridge")?;
                ("--bridge", Device::Bridge(name.clone()))
            }
            (None, Some(name)) => {
                check_interface("--tap", name, "tun_flags")?;
                ("--tap", Device::Tap(name.clone()))
            }
            (None, None) if forwards.is_empty() && !spec.wants_network() => return Ok(None),
            (None, None) => ("--forward", Host::network(forwards)),
        };
        if !spec.wants_network() {
            bail!(
                "{option} leads nowhere: the image has no network; add [[network.interface]] with \
                 dhcp4 = true to its description"
            );
        }
        Ok(Some(nic))
    }
}

/// Fails where the host has no such interface, or where it is another kind.
fn check_interface(option: &str, name: &str, sign: &str) -> Result<()> {
    let interface = Path::new(INTERFACES).join(name);
    if name.is_empty() || name.contains(['/', ',']) || !interface.exists() {
        bail!(
            "{option} {name}: this machine has no such interface; `ip link` lists those that it has"
        );
    }
    if !interface.join(sign).exists() {
        let kind = option.trim_start_matches('-');
        bail!("{option} {name}: this interface is no {kind}");
    }
    Ok(())
}

/// What was made outside of the emulated host: the plan, and the archive that it names.
fn read_plan(file: &Path) -> Result<(Plan, Vec<u8>)> {
    let plan: Plan = serde_json::from_slice(&read(file)?)
        .with_context(|| format!("{} is broken", file.display()))?;
    let archive = read(&plan.archive)?;
    Ok((plan, archive))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
