//! Which disks there are, and whether more of them may still appear, by `/sys`.

use std::fs;
use std::path::Path;

/// Where the kernel lists disks and their partitions.
pub const BLOCK: &str = "/sys/class/block";

/// The kernel's devices.
pub const SYS: &str = "/sys";

/// How many disks are looked at.
const DISKS_MAX: usize = 32;

/// What a hypervisor's disks and drives are called; memory's, the kernel's loops and the like have
/// no seed.
const NAMES: [&str; 5] = ["vd", "sd", "sr", "nvme", "xvd"];

/// virtio's device types of disks: block and SCSI host (virtio 1.2, section 5).
const VIRTIO_DISKS: [&str; 2] = ["0x0002", "0x0008"];

/// The disks and partitions below `folder`, by their names; a disk comes before its partitions.
#[must_use]
pub fn list(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = names_in(folder)
        .filter(|name| NAMES.iter().any(|start| name.starts_with(start)))
        // They become paths; the kernel writes a `/` in a name as `!`.
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .collect();
    names.sort();
    names.truncate(DISKS_MAX);
    names
}

/// Whether a bus is there whose disks are found in the background, or a virtio disk that its driver
/// has not taken yet. A virtio disk whose driver is in is there at once.
#[must_use]
pub fn more_may_appear(sys: &Path) -> bool {
    let scsi = names_in(&sys.join("class/scsi_host")).next().is_some();
    let nvme = names_in(&sys.join("class/nvme")).next().is_some();
    let virtio = sys.join("bus/virtio/devices");
    let waits = |name: &String| {
        let device = virtio.join(name);
        let kind = fs::read_to_string(device.join("device")).unwrap_or_default();
        VIRTIO_DISKS.contains(&kind.trim()) && !device.join("driver").exists()
    };
    scsi || nvme || names_in(&virtio).any(|name| waits(&name))
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_listed_in_order_and_what_is_none_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "vdb", "vda1", "vda", "loop0", "sr0", "ram3", "sd!x", "zram0",
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(list(folder.path()), ["sr0", "vda", "vda1", "vdb"]);
        assert_eq!(list(&folder.path().join("nowhere")), Vec::<String>::new());
    }

    #[test]
    fn only_a_disk_without_its_driver_or_a_slow_bus_is_worth_waiting_for() {
        let sys = tempfile::tempdir().unwrap();
        assert!(!more_may_appear(sys.path()));
        let disk = sys.path().join("bus/virtio/devices/virtio0");
        fs::create_dir_all(&disk).unwrap();
        fs::write(disk.join("device"), "0x0003\n").unwrap();
        assert!(!more_may_appear(sys.path()), "a console");
        fs::write(disk.join("device"), "0x0002\n").unwrap();
        assert!(more_may_appear(sys.path()));
        fs::create_dir(disk.join("driver")).unwrap();
        assert!(!more_may_appear(sys.path()));
        fs::create_dir_all(sys.path().join("class/scsi_host/host0")).unwrap();
        assert!(more_may_appear(sys.path()));
    }
}
