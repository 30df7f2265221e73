//! QEMU's arguments, as a pure function of the machine's configuration.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use noonmark_contract::units::Utc;
use noonmark_contract::{channel, testport};

use crate::accel::Accelerator;

use super::config::{Boot, CABLE_MACS, Config, Device, Forward, NET_MAC, Rtc};
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
            Accelerator::Kvm | Accelerator::Nested => "host",
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
        // A root port of its own, since what sits on the root complex cannot be unplugged.
        Device::NicSlot => argv.pair(
            "-device",
            format!("pcie-root-port,id={},chassis={}", nic::SLOT, index + 1),
        ),
        Device::Net { forwards, on } => {
            let mut network = format!("user,id=net{index},ipv6=off");
            for Forward { host, guest } in forwards {
                network += &format!(",hostfwd=tcp:{on}:{host}-:{guest}");
            }
            argv.pair("-netdev", network);
            // No boot by network, so no option ROM, which not every distribution has beside QEMU.
            argv.pair(
                "-device",
                format!("virtio-net-pci,netdev=net{index},mac={NET_MAC},romfile="),
            );
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
mod tests {
    use super::*;

    fn config() -> Config {
        let boot = Boot::Direct {
            kernel: "/i/kernel".into(),
            initrd: "/i/initrd".into(),
            cmdline: "console=ttyS0 panic=-1".into(),
        };
        Config {
            test_port: true,
            ..Config::new("test", Accelerator::Tcg, boot)
        }
    }

    /// One line for each flag with its value.
    fn dump(config: &Config) -> String {
        let endpoints = Endpoints {
            qmp: "/r/qmp".into(),
            status: "/r/status".into(),
            time: "/r/time".into(),
            test: "/r/test".into(),
            vars: "/r/vars".into(),
        };
        let mut text = String::new();
        for word in argv(config, &endpoints) {
            let word = word.into_string().unwrap();
            let separator = match word.starts_with('-') {
                true => '\n',
                false => ' ',
            };
            text.push(separator);
            text.push_str(&word);
        }
        text
    }

    #[test]
    fn a_test_image_boots_directly_with_all_three_ports() {
        let expected = "
-machine q35
-accel tcg
-cpu max
-smp 2
-m 256M
-nodefaults
-no-user-config
-display none
-no-reboot
-rtc base=utc
-chardev stdio,id=console,signal=off
-serial chardev:console
-chardev socket,id=qmp,path=/r/qmp
-mon chardev=qmp,mode=control
-device virtio-serial-pci,id=ports
-chardev socket,id=status,path=/r/status
-device virtserialport,bus=ports.0,nr=1,chardev=status,name=noonmark.status
-chardev socket,id=time,path=/r/time
-device virtserialport,bus=ports.0,nr=2,chardev=time,name=noonmark.time
-chardev socket,id=test,path=/r/test
-device virtserialport,bus=ports.0,nr=3,chardev=test,name=noonmark.test
-kernel /i/kernel
-initrd /i/initrd
-append console=ttyS0 panic=-1";
        assert_eq!(dump(&config()), expected);
    }

    #[test]
    fn a_disk_boots_by_its_firmware_with_the_devices_asked_for() {
        let config = Config {
            accelerator: Accelerator::Kvm,
            boot: Boot::Uefi {
                disk: "/i/a,b.img".into(),
                code: "/f/code".into(),
                vars: "/f/vars".into(),
            },
            rtc: Rtc::From(Utc(1_677_673_800_000_000_000)),
            time_channel: false,
            test_port: false,
            devices: vec![
                Device::VmGenId {
                    guid: "auto".into(),
                },
                Device::VmClock,
                Device::NicSlot,
                Device::Net {
                    forwards: vec![Forward {
                        host: 8080,
                        guest: 80,
                    }],
                    on: std::net::Ipv4Addr::LOCALHOST,
                },
                Device::Disk {
                    path: "/i/seed.img".into(),
                    writable: false,
                },
                Device::Disk {
                    path: "/i/data.img".into(),
                    writable: true,
                },
                Device::Cdrom {
                    path: "/i/seed.iso".into(),
                },
                Device::Port {
                    name: "org.example.log".into(),
                    socket: "/r/log".into(),
                },
                Device::Credential("a.b=x=1,2".parse().unwrap()),
                Device::FirmwareCredential("a.b=x=1,2".parse().unwrap()),
            ],
            ..config()
        };
        let expected = "
-machine q35
-accel kvm
-cpu host
-smp 2
-m 256M
-nodefaults
-no-user-config
-display none
-no-reboot
-rtc base=2023-03-01T12:30:00
-chardev stdio,id=console,signal=off
-serial chardev:console
-chardev socket,id=qmp,path=/r/qmp
-mon chardev=qmp,mode=control
-device virtio-serial-pci,id=ports
-chardev socket,id=status,path=/r/status
-device virtserialport,bus=ports.0,nr=1,chardev=status,name=noonmark.status
-drive if=pflash,unit=0,format=raw,readonly=on,file=/f/code
-drive if=pflash,unit=1,format=raw,file=/r/vars
-drive if=none,id=disk,format=raw,readonly=on,file=/i/a,,b.img
-device virtio-blk-pci,drive=disk
-device vmgenid,guid=auto
-device vmclock
-device pcie-root-port,id=nic-slot,chassis=3
-netdev user,id=net3,ipv6=off,hostfwd=tcp:127.0.0.1:8080-:80
-device virtio-net-pci,netdev=net3,mac=52:54:00:12:34:56,romfile=
-drive if=none,id=disk4,format=raw,readonly=on,file=/i/seed.img
-device virtio-blk-pci,drive=disk4
-drive if=none,id=disk5,format=raw,readonly=off,file=/i/data.img
-device virtio-blk-pci,drive=disk5
-drive if=none,id=disk6,media=cdrom,format=raw,readonly=on,file=/i/seed.iso
-device virtio-scsi-pci,id=scsi6
-device scsi-cd,drive=disk6,bus=scsi6.0
-chardev socket,id=port7,server=on,wait=off,path=/r/log
-device virtserialport,bus=ports.0,chardev=port7,name=org.example.log
-smbios type=11,value=io.systemd.credential:a.b=x=1,,2
-fw_cfg name=opt/io.systemd.credentials/a.b,string=x=1,,2";
        assert_eq!(dump(&config), expected);
    }
}
