//! The guest's file systems on disks, from the kernel's list of mounts.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use serde::Serialize;

use crate::reply::Problem;

/// The mounts that this program sees (proc_pid_mountinfo(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// Where the kernel shows block devices by their numbers.
const DEVICES: &str = "/sys/dev/block";

/// `GuestFilesystemInfo`
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileSystem {
    name: String,
    mountpoint: String,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<u64>,
    disk: Vec<Disk>,
}

/// `GuestDiskAddress`
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Disk {
    pci_controller: PciAddress,
    bus_type: &'static str,
    bus: u32,
    target: u32,
    unit: u32,
    dev: String,
}

/// `GuestPCIAddress`
#[derive(Debug, PartialEq, Eq, Serialize)]
struct PciAddress {
    domain: u32,
    bus: u32,
    slot: u32,
    function: u32,
}

/// A line of [`MOUNTS`] about a disk.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// `MAJOR:MINOR`
    device: String,
    mountpoint: String,
    kind: String,
}

/// Those that lie on a block device.
pub fn list() -> Result<Vec<FileSystem>, Problem> {
    let text = fs::read_to_string(MOUNTS)
        .map_err(|error| Problem::new(format!("failed to open '{MOUNTS}': {error}")))?;
    Ok(text.lines().filter_map(mount).map(describe).collect())
}

/// A mount of a device; the kernel's own file systems have no device with a major number.
fn mount(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let device = fields.nth(2)?;
    let mountpoint = fields.nth(1)?;
    let kind = file_system.split(' ').next()?;
    (!device.starts_with("0:")).then(|| Mount {
        device: device.to_owned(),
        mountpoint: unescaped(mountpoint),
        kind: kind.to_owned(),
    })
}

/// Blanks, line ends and backslashes stand there as a backslash and three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..3);
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                plain.extend(&part.as_bytes()[3..]);
            }
            None => {
                plain.push(b'\\');
                plain.extend(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn describe(mount: Mount) -> FileSystem {
    let Mount {
        device,
        mountpoint,
        kind,
    } = mount;
    let place = fs::canonicalize(Path::new(DEVICES).join(&device)).unwrap_or_default();
    let name = place.file_name().map_or(device.clone(), |name| {
        String::from_utf8_lossy(name.as_bytes()).into_owned()
    });
    // As QEMU's agent counts: what is kept for user 0 is no part of the whole.
    let space = statvfs(&mountpoint).ok().map(|space| {
        let used = space.f_blocks.saturating_sub(space.f_bfree);
        let all = used.saturating_add(space.f_bavail);
        [used, all].map(|blocks| blocks.saturating_mul(space.f_frsize))
    });
    FileSystem {
        disk: disk(&place, &name).into_iter().collect(),
        name,
        mountpoint,
        r#type: kind,
        used_bytes: space.map(|[used, _]| used),
        total_bytes: space.map(|[_, total]| total),
    }
}

/// The disk that a block device is of, where that is virtio-blk on PCI: its place in `/sys/devices` ends
/// as `0000:00:03.0/virtio1/block/vda`, with a partition's name behind that.
fn disk(place: &Path, name: &str) -> Option<Disk> {
    let block = place.ancestors().find(|folder| folder.ends_with("block"))?;
    let virtio = block.parent()?;
    let is_virtio = virtio.file_name()?.to_str()?.starts_with("virtio");
    let pci_controller = pci_address(virtio.parent().map(PathBuf::from)?.file_name()?.to_str()?)?;
    is_virtio.then(|| Disk {
        pci_controller,
        bus_type: "virtio",
        bus: 0,
        target: 0,
        unit: 0,
        dev: format!("/dev/{name}"),
    })
}

/// `0000:00:03.0`
fn pci_address(text: &str) -> Option<PciAddress> {
    let (place, function) = text.split_once('.')?;
    let mut parts = place.split(':').map(|part| u32::from_str_radix(part, 16));
    let mut next = || parts.next()?.ok();
    Some(PciAddress {
        domain: next()?,
        bus: next()?,
        slot: next()?,
        function: function.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_disks_are_told_from_the_kernels_own() {
        let line =
            "31 1 254:16 / /media/my\\040films rw,nosuid shared:1 master:2 - ext4 /dev/vdb rw";
        let expected = Mount {
            device: "254:16".into(),
            mountpoint: "/media/my films".into(),
            kind: "ext4".into(),
        };
        assert_eq!(mount(line), Some(expected));
        for other in [
            "22 1 0:20 / /proc rw - proc proc rw",
            "",
            " - ",
            "1 2 3",
            "1 2 8:1 - x",
        ] {
            assert_eq!(mount(other), None, "{other}");
        }
        assert_eq!(unescaped("a\\134b\\9\\"), "a\\b\\9\\");
    }

    #[test]
    fn a_disk_is_told_by_its_place_on_the_bus() {
        let device = "/sys/devices/pci0000:00/0000:00:1c.3/0000:0a:03.1/virtio1/block/vdb";
        for (path, name) in [(device, "vdb"), (&format!("{device}/vdb1"), "vdb1")] {
            let found = disk(Path::new(path), name).unwrap();
            let address = PciAddress {
                domain: 0,
                bus: 10,
                slot: 3,
                function: 1,
            };
            assert_eq!(
                (found.pci_controller, found.dev),
                (address, format!("/dev/{name}"))
            );
        }
        for other in [
            "",
            "/sys/devices/virtual/block/loop0",
            "/sys/devices/a/b/block/vdb",
        ] {
            assert_eq!(disk(Path::new(other), "x"), None, "{other}");
        }
    }
}
