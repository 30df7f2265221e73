//! What a machine is made of.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use noonmark_contract::record;
use noonmark_contract::units::Utc;
use thiserror::Error;

use crate::accel::Accelerator;
use crate::file_error::FileError;

use super::forward::Forward;

/// One virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How `status` lists it; any text.
    pub name: String,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Virtual processors, 1..=255.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// What it boots.
    pub boot: Boot,
    /// What its battery-backed clock says at power-on.
    pub rtc: Rtc,
    /// The name in the guest of the port with its records: [`record::PORT`], or where an emulated host
    /// hands on those of its own guest, [`STATUS_PORT`](crate::kvm_host::STATUS_PORT).
    pub status_port: &'static str,
    /// Whether the host answers on the time channel, port `noonmark.time`.
    pub time_channel: bool,
    /// Whether it has the port `noonmark.test`, which only test images use.
    pub test_port: bool,
    /// Whether it has the ports of `noonmark.run`, which only images for commands use.
    pub command_ports: bool,
    /// Further devices.
    pub devices: Vec<Device>,
    /// Further arguments of QEMU's, behind all others.
    pub more: Vec<OsString>,
}

impl Config {
    /// A machine that boots an image: two processors, 256 MiB, the host's UTC in its battery-backed
    /// clock, an answer on the time channel, and nothing else.
    #[must_use]
    pub fn new(name: impl Into<String>, accelerator: Accelerator, boot: Boot) -> Self {
        Self {
            name: name.into(),
            accelerator,
            vcpus: 2,
            memory_mib: 256,
            boot,
            rtc: Rtc::HostUtc,
            status_port: record::PORT,
            time_channel: true,
            test_port: false,
            command_ports: false,
            devices: Vec::new(),
            more: Vec::new(),
        }
    }
}

/// What a machine boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads kernel and initrd itself.
    Direct {
        /// A bzImage.
        kernel: PathBuf,
        /// The initial RAM disk.
        initrd: PathBuf,
        /// The kernel's command line.
        cmdline: String,
    },
    /// The firmware loads a disk's UKI.
    Uefi {
        /// A raw disk image; it is not written to.
        disk: PathBuf,
        /// The firmware's code.
        code: PathBuf,
        /// The template of the firmware's variables; the machine works on a copy.
        vars: PathBuf,
    },
}

impl Boot {
    /// Has QEMU load kernel and initrd, with the command line that is in the file `cmdline`.
    ///
    /// # Errors
    /// Where that file can't be read.
    pub fn direct(kernel: PathBuf, initrd: PathBuf, cmdline: &Path) -> Result<Self, FileError> {
        let text = fs::read_to_string(cmdline).map_err(FileError::of("read", cmdline))?;
        Ok(Self::Direct {
            kernel,
            initrd,
            cmdline: text.trim_end().to_owned(),
        })
    }
}

/// What the machine's battery-backed clock says at power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rtc {
    /// The host's UTC.
    #[default]
    HostUtc,
    /// A fixed instant, in whole seconds, from which it runs on.
    From(Utc),
}

/// A device that not every machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A VM generation ID, by which a guest learns that it was restored.
    VmGenId {
        /// A GUID, or `auto`.
        guid: String,
    },
    /// A VMClock page, whose disruption marker moves when the machine is restored.
    VmClock,
    /// A watchdog, i6300esb, which resets the machine unless the guest says that it is well.
    Watchdog,
    /// An empty slot that a NIC with a PHC of its own can be plugged into: [`Machine::plug_nic`](crate::Machine::plug_nic).
    NicSlot,
    /// A virtio NIC in a network of QEMU's own, in which the host is 10.0.2.2 and hands out
    /// addresses; nothing outside reaches the guest but what is forwarded.
    Net {
        /// Ports of the host's that lead to the guest's.
        forwards: Vec<Forward>,
        /// The host's address that they are on: its loopback, or in an emulated host any, which only
        /// its own outside reaches.
        on: Ipv4Addr,
    },
    /// The same NIC in a network of the host's, on this bridge, by QEMU's own helper (qemu-bridge-helper,
    /// which `/etc/qemu/bridge.conf` must allow it).
    Bridge(String),
    /// The same NIC behind this tap interface of the host's, which is there already.
    Tap(String),
    /// A folder of the host's, over 9p.
    Share {
        /// The folder.
        folder: PathBuf,
        /// By which the guest finds it: 1 to 31 bytes.
        tag: String,
        /// Whether the guest can write nothing there.
        read_only: bool,
    },
    /// Two virtio NICs with a cable from the one to the other, and nothing else on it.
    Cable,
    /// A raw disk image for virtio-blk.
    Disk {
        /// The image.
        path: PathBuf,
        /// Whether the guest may write to it.
        writable: bool,
    },
    /// The same in a CD-ROM drive of virtio-scsi.
    Cdrom {
        /// The image.
        path: PathBuf,
    },
    /// A text for the guest among the machine's SMBIOS strings, as systemd has its credentials there
    /// (systemd.system-credentials(7)).
    Credential(Credential),
    /// The same in QEMU's firmware configuration.
    FirmwareCredential(Credential),
    /// A further virtio-serial port, on whose socket QEMU listens: nobody is there until somebody
    /// connects.
    Port {
        /// Its name in the guest.
        name: String,
        /// The socket, which QEMU makes.
        socket: PathBuf,
    },
}

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    name: String,
    value: String,
}

/// A text that is no [`Credential`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "expected NAME=VALUE, the name of letters, digits, `.`, `_` and `-`, e.g. system.hostname=web-1"
)]
pub struct BadCredential;

impl Credential {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for Credential {
    type Err = BadCredential;

    fn from_str(text: &str) -> Result<Self, BadCredential> {
        let (name, value) = text.split_once('=').ok_or(BadCredential)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || !name.bytes().all(fits) || value.contains('\0') {
            return Err(BadCredential);
        }
        Ok(Self {
            name: name.into(),
            value: value.into(),
        })
    }
}

/// The hardware address of a [`Device::Net`], [`Device::Bridge`] or [`Device::Tap`].
pub const NET_MAC: &str = "52:54:00:12:34:56";

/// The hardware addresses of the two ends of a [`Device::Cable`].
pub const CABLE_MACS: [&str; 2] = ["52:54:00:ca:b1:0a", "52:54:00:ca:b1:0b"];
