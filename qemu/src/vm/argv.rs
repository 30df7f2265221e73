//! QEMU's arguments, as a pure function of the machine's configuration.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use noonmark_contract::units::Utc;
use noonmark_contract::{channel, run, testport};

use crate::accel::Accelerator;

use super::config::{Boot, CABLE_MACS, Config, Device, NET_MAC, Rtc};
use super::nic;

/// The sockets that QEMU connects to, and the files that belong to one run.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The monitor.
    pub qmp: PathBuf,
    /// The status port.
    pub status: PathBuf,
    /// The time channel.
    pub time: PathBuf,
    /// The test port.
    pub test: PathBuf,
    /// The port of orders to run commands, and those of their standard streams.
    pub command: [PathBuf; 4],
    /// The firmware's variables, a copy that QEMU may write to.
    pub vars: PathBuf,
}

impl Endpoints {
    /// Those in `folder`, by names that a runtime directory's sockets may have.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            qmp: folder.join("qemu-qmp"),
            status: folder.join("qemu-status"),
            time: folder.join("qemu-time"),
            test: folder.join("qemu-test"),
            command: ["qemu-run", "qemu-in", "qemu-out", "qemu-err"].map(|name| folder.join(name)),
            vars: folder.join("vars.fd"),
        }
    }
}

/// The time channel's name among QEMU's character devices.
pub(super) const TIME_CHARDEV: &str = "time";

/// Everything after the program's name.
#[must_use]
pub fn argv(config: &Config, endpoints: &Endpoints) -> Vec<OsString> {
    let mut argv = Argv::default();
    machine(&mut argv, config);
    console(&mut argv);
    monitor(&mut argv, &endpoints.qmp);
    ports(&mut argv, config, endpoints);
    boot(&mut argv, &config.boot, &endpoints.vars);
    for (index, device) in config.devices.iter().enumerate() {
        extra_device(&mut argv, device, index);
    }
    argv.0.extend(config.more.iter().cloned());
    argv.0
}

/// What is added for a QEMU that takes over a machine: it waits to be told where its state comes
/// from, by which time it listens, and nobody has to poll for a socket's file.
pub(super) fn incoming() -> [OsString; 2] {
    ["-incoming".into(), "defer".into()]
}

fn machine(argv: &mut Argv, config: &Config) {
    // The modern chipset: PCI Express, which vmclock, igb and OVMF expect.
    argv.pair("-machine", "q35");
    let program = match config.accelerator {
        Accelerator::Kvm | Accelerator::Nested => "kvm",
        Accelerator::Tcg => "tcg",
    };
    argv.pair("-accel", program);
    argv.pair(
        "-cpu",
        match config.accelerator {
            // Everything that the processor has, its invariant TSC above all.
            Accelerator::Kvm => "host",
            // An emulated processor's virtualization carries one guest, and none in that.
            Accelerator::Nested => "host,svm=off",
            // Everything that can be translated; without it the guest lacks RDRAND and waits for
            // entropy.
            Accelerator::Tcg => "max",
        },
    );
    argv.pair("-smp", config.vcpus.to_string());
    argv.pair("-m", format!("{}M", config.memory_mib));
    // Only what is listed here: no NIC, no VGA, no floppy, and no user's own configuration.
    argv.flag("-nodefaults");
    argv.flag("-no-user-config");
    argv.pair("-display", "none");
    // A guest that panics with panic=-1 on its command line, or reboots, ends QEMU.
    argv.flag("-no-reboot");
    argv.pair("-rtc", rtc(config.rtc));
}

fn rtc(rtc: Rtc) -> String {
    match rtc {
        Rtc::HostUtc => "base=utc".to_owned(),
        Rtc::From(Utc(ns)) => {
            let instant = Timestamp::from_second(ns.div_euclid(1_000_000_000))
                .unwrap_or(Timestamp::UNIX_EPOCH);
            let civil = TimeZone::UTC.to_datetime(instant);
            format!("base={civil}")
        }
    }
}

/// The first serial port goes to QEMU's standard output, which the harness reads.
fn console(argv: &mut Argv) {
    // signal=off: a Ctrl-C is the harness's business, not QEMU's.
    argv.pair("-chardev", "stdio,id=console,signal=off");
    argv.pair("-serial", "chardev:console");
}

/// QEMU is the client of every socket: the harness listens before it starts QEMU, so that neither
/// waits for a file to appear, and QEMU ends at once if the harness is gone.
fn monitor(argv: &mut Argv, qmp: &Path) {
    argv.socket("qmp", qmp);
    argv.pair("-mon", "chardev=qmp,mode=control");
}

fn ports(argv: &mut Argv, config: &Config, endpoints: &Endpoints) {
    argv.pair("-device", "virtio-serial-pci,id=ports");
    argv.port("status", &endpoints.status, config.status_port, 1);
    if config.time_channel {
        argv.port(TIME_CHARDEV, &endpoints.time, channel::PORT, 2);
    }
    if config.test_port {
        argv.port("test", &endpoints.test, testport::PORT, 3);
    }
    if config.command_ports {
        let [stdin, stdout, stderr] = run::STREAM_PORTS;
        let ports = [
            ("run", run::PORT),
            ("stdin", stdin),
            ("stdout", stdout),
            ("stderr", stderr),
        ];
        for ((id, name), (path, number)) in ports.into_iter().zip(endpoints.command.iter().zip(4..))
        {
            argv.port(id, path, name, number);
        }
    }
}

fn boot(argv: &mut Argv, boot: &Boot, own_vars: &Path) {
    match boot {
        Boot::Direct {
            kernel,
            initrd,
            cmdline,
        } => {
            argv.pair("-kernel", kernel);
            argv.pair("-initrd", initrd);
            argv.pair("-append", cmdline);
        }
        Boot::Uefi { disk, code, .. } => {
            // Two flash chips, as OVMF expects them: its code, and its variables.
            argv.drive("if=pflash,unit=0,format=raw,readonly=on,file=", code);
            argv.drive("if=pflash,unit=1,format=raw,file=", own_vars);
            argv.disk("disk", disk, false);
        }
    }
}

fn extra_device(argv: &mut Argv, device: &Device, index: usize) {
    match device {
        Device::VmGenId { guid } => argv.pair("-device", format!("vmgenid,guid={guid}")),
        Device::VmClock => argv.pair("-device", "vmclock"),
        // What it does is QEMU's default, a reset.
        Device::Watchdog => argv.pair("-device", "i6300esb"),
        // A root port of its own, since what sits on the root complex cannot be unplugged.
        Device::NicSlot => argv.pair(
            "-device",
            format!("pcie-root-port,id={},chassis={}", nic::SLOT, index + 1),
        ),
        Device::Net { forwards, on } => {
            let mut network = format!("user,id=net{index},ipv6=off");
            for forward in forwards {
                let on = forward.on.unwrap_or(*on);
                for (host, guest) in forward.ports() {
                    network += &format!(",hostfwd={}:{on}:{host}-:{guest}", forward.protocol);
                }
            }
            argv.nic(index, network);
        }
        Device::Bridge(name) => argv.nic(index, format!("bridge,id=net{index},br={name}")),
        Device::Tap(name) => {
            let tap = format!("tap,id=net{index},ifname={name},script=no,downscript=no");
            argv.nic(index, tap);
        }
        // Files get no owners of their own, so that no right of QEMU's is needed and the host sees what it
        // would see of its own programs.
        Device::Share {
            folder,
            tag,
            read_only,
        } => {
            let read_only = if *read_only { "on" } else { "off" };
            let mut value = OsString::from(format!(
                "local,id=share{index},security_model=none,readonly={read_only},path="
            ));
            value.push(escaped(folder));
            argv.pair("-fsdev", value);
            let device = format!("virtio-9p-pci,fsdev=share{index},mount_tag={tag}");
            argv.pair("-device", device);
        }
        Device::Cable => {
            for (end, mac) in CABLE_MACS.iter().enumerate() {
                let id = format!("cable{index}-{end}");
                argv.pair("-netdev", format!("hubport,id={id},hubid={index}"));
                let device = format!("virtio-net-pci,netdev={id},mac={mac},romfile=");
                argv.pair("-device", device);
            }
        }
        Device::Disk { path, writable } => argv.disk(&format!("disk{index}"), path, *writable),
        Device::Cdrom { path } => {
            argv.drive(
                &format!("if=none,id=disk{index},media=cdrom,format=raw,readonly=on,file="),
                path,
            );
            argv.pair("-device", format!("virtio-scsi-pci,id=scsi{index}"));
            argv.pair(
                "-device",
                format!("scsi-cd,drive=disk{index},bus=scsi{index}.0"),
            );
        }
        Device::Credential(credential) => {
            let (name, value) = (credential.name(), credential.value());
            let mut option = OsString::from(format!("type=11,value=io.systemd.credential:{name}="));
            option.push(escaped(value.as_ref()));
            argv.pair("-smbios", option);
        }
        Device::FirmwareCredential(credential) => {
            let (name, value) = (credential.name(), credential.value());
            let mut option =
                OsString::from(format!("name=opt/io.systemd.credentials/{name},string="));
            option.push(escaped(value.as_ref()));
            argv.pair("-fw_cfg", option);
        }
        Device::Port { name, socket } => {
            let mut value =
                OsString::from(format!("socket,id=port{index},server=on,wait=off,path="));
            value.push(escaped(socket));
            argv.pair("-chardev", value);
            argv.pair(
                "-device",
                format!("virtserialport,bus=ports.0,chardev=port{index},name={name}"),
            );
        }
    }
}

#[derive(Default)]
struct Argv(Vec<OsString>);

impl Argv {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn pair(&mut self, flag: &str, value: impl AsRef<OsStr>) {
        self.0.push(flag.into());
        self.0.push(value.as_ref().to_owned());
    }

    /// A NIC behind which is this network. No boot by network, so no option ROM, which not every
    /// distribution has beside QEMU.
    fn nic(&mut self, index: usize, network: String) {
        self.pair("-netdev", network);
        self.pair(
            "-device",
            format!("virtio-net-pci,netdev=net{index},mac={NET_MAC},romfile="),
        );
    }

    fn socket(&mut self, id: &str, path: &Path) {
        let mut value = OsString::from(format!("socket,id={id},path="));
        value.push(escaped(path));
        self.pair("-chardev", value);
    }

    /// A port of the virtio-serial bus. Its number is fixed, so that the guest's device names do
    /// not depend on which ports there are.
    fn port(&mut self, id: &str, path: &Path, name: &str, number: u32) {
        self.socket(id, path);
        self.pair(
            "-device",
            format!("virtserialport,bus=ports.0,nr={number},chardev={id},name={name}"),
        );
    }

    fn drive(&mut self, options: &str, file: &Path) {
        let mut value = OsString::from(options);
        value.push(escaped(file));
        self.pair("-drive", value);
    }

    fn disk(&mut self, id: &str, path: &Path, writable: bool) {
        let read_only = if writable { "off" } else { "on" };
        self.drive(
            &format!("if=none,id={id},format=raw,readonly={read_only},file="),
            path,
        );
        self.pair("-device", format!("virtio-blk-pci,drive={id}"));
    }
}

/// A path as an option's value: QEMU ends a value at a comma unless it is doubled.
fn escaped(path: &Path) -> OsString {
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        bytes.push(byte);
        if byte == b',' {
            bytes.push(byte);
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests;
