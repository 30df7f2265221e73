//! The kernel's uevents, by netlink: what was plugged in or out, and the vmgenid's new generation.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};

/// One message's longest length: the kernel's `UEVENT_BUFFER_SIZE` of 2048 and its header.
const MESSAGE_MAX: usize = 4096;

/// What a uevent means for the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uevent {
    /// The machine was restored or cloned: the hypervisor gave it a new generation
    /// (drivers/virt/vmgenid.c).
    NewGeneration,
    /// A PHC came or went.
    Ptp,
    /// A PHC came while its device's driver is still at work on that device.
    PtpProbing {
        /// The device's path in sysfs, without the mount point.
        device: String,
        /// The PHC's name in `/sys/class/ptp`.
        name: String,
    },
    /// A driver has finished with a device.
    Bound {
        /// The device's path in sysfs, without the mount point.
        device: String,
    },
    /// A virtio-serial port came or went.
    VirtioPort,
}

/// The netlink socket.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Subscribes to the kernel's own uevents.
    ///
    /// # Errors
    /// As `socket` and `bind`; a kernel without `CONFIG_NET` has none.
    pub fn open() -> Result<Self, Errno> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(KOBJECT_UEVENT),
        )?;
        // Group 1 is what the kernel sends; group 2 is udev's.
        bind(&socket, &SocketAddrNetlink::new(0, 1))?;
        Ok(Self { socket })
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn descriptor(&self) -> &OwnedFd {
        &self.socket
    }

    /// The next message that matters here, at most `budget` messages on; none where no more wait.
    pub fn next(&self, budget: &mut u32) -> Option<Uevent> {
        let mut buffer = [0u8; MESSAGE_MAX];
        while *budget > 0 {
            *budget -= 1;
            let (used, _, sender) =
                match recvfrom(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok(received) => received,
                    // Messages were lost, so anything may have changed.
                    Err(Errno::NOBUFS) => return Some(Uevent::Ptp),
                    Err(_) => return None,
                };
            let from_kernel = sender
                .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
                .is_some_and(|sender| sender.pid() == 0);
            if from_kernel && let Some(uevent) = parse(&buffer[..used]) {
                return Some(uevent);
            }
        }
        None
    }
}

/// Reads one message: `ACTION@DEVPATH`, then `KEY=VALUE` strings, each ended by a zero byte.
fn parse(message: &[u8]) -> Option<Uevent> {
    let mut action: &[u8] = b"";
    let mut subsystem: &[u8] = b"";
    let mut path: &[u8] = b"";
    for field in message.split(|&byte| byte == 0).skip(1) {
        if field == b"NEW_VMGENID=1" {
            return Some(Uevent::NewGeneration);
        }
        if let Some(value) = field.strip_prefix(b"ACTION=") {
            action = value;
        } else if let Some(value) = field.strip_prefix(b"SUBSYSTEM=") {
            subsystem = value;
        } else if let Some(value) = field.strip_prefix(b"DEVPATH=") {
            path = value;
        }
    }
    match (action, subsystem) {
        (b"add", b"ptp") => Some(probing(path).unwrap_or(Uevent::Ptp)),
        (b"remove", b"ptp") => Some(Uevent::Ptp),
        (b"bind", _) => Some(Uevent::Bound {
            device: String::from_utf8_lossy(path).into_owned(),
        }),
        // "change" tells that the port has got its name.
        (b"add" | b"remove" | b"change", b"virtio-ports") => Some(Uevent::VirtioPort),
        _ => None,
    }
}

/// What a PHC of this path means, if it belongs to a device: `/devices/…/DEVICE/ptp/ptp0`. Those of
/// hypervisors are `/devices/virtual/ptp/ptp0`, and complete when their uevent comes.
fn probing(path: &[u8]) -> Option<Uevent> {
    let path = str::from_utf8(path).ok()?;
    let (device, name) = path.rsplit_once("/ptp/")?;
    (device != "/devices/virtual").then(|| Uevent::PtpProbing {
        device: device.to_owned(),
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_messages_that_matter_are_told_from_the_rest() {
        for (message, expected) in [
            (
                "change@/devices/x\0ACTION=change\0SUBSYSTEM=platform\0NEW_VMGENID=1\0SEQNUM=7\0",
                Some(Uevent::NewGeneration),
            ),
            (
                "add@/devices/virtual/ptp/ptp0\0ACTION=add\0SUBSYSTEM=ptp\0",
                Some(Uevent::Ptp),
            ),
            (
                "change@/devices/v\0ACTION=change\0SUBSYSTEM=virtio-ports\0",
                Some(Uevent::VirtioPort),
            ),
            (
                "add@/devices/pci/nic/ptp/ptp1\0ACTION=add\0DEVPATH=/devices/pci/nic/ptp/ptp1\0\
                 SUBSYSTEM=ptp\0",
                Some(Uevent::PtpProbing {
                    device: "/devices/pci/nic".into(),
                    name: "ptp1".into(),
                }),
            ),
            (
                "add@/devices/virtual/ptp/ptp0\0ACTION=add\0\
                 DEVPATH=/devices/virtual/ptp/ptp0\0SUBSYSTEM=ptp\0",
                Some(Uevent::Ptp),
            ),
            (
                "bind@/devices/pci/nic\0ACTION=bind\0DEVPATH=/devices/pci/nic\0SUBSYSTEM=pci\0",
                Some(Uevent::Bound {
                    device: "/devices/pci/nic".into(),
                }),
            ),
            ("unbind@/devices/v\0ACTION=unbind\0SUBSYSTEM=pci\0", None),
            ("add@/devices/b\0ACTION=add\0SUBSYSTEM=block\0", None),
            ("NEW_VMGENID=1", None),
            ("", None),
        ] {
            assert_eq!(parse(message.as_bytes()), expected, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn no_message_upsets_the_parser(message in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&message);
        }
    }
}
