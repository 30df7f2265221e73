//! The names by which systems with udev know an interface (systemd.net-naming-scheme(7)): the kernel here
//! keeps its own, and configurations that were written for others still mean the right one.

use std::fs;
use std::path::Path;

use noonmark_contract::config::network::Mac;

/// Where the kernel shows its devices.
pub const SYS: &str = "/sys";

/// The names that udev could give the interface which the kernel calls `name`: by its index on the
/// board, its slot, its place on the PCI bus, its hardware address.
pub fn udev_names(sys: &Path, name: &str, mac: Option<Mac>) -> Vec<String> {
    let mut names = Vec::new();
    let device = sys.join("class/net").join(name).join("device");
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
    if let Ok(place) = fs::canonicalize(&device) {
        // A virtio device lies in the PCI device that carries it; that may lie in the bridge which has
        // the slot.
        let above = place
            .ancestors()
            .filter_map(|folder| Some((folder, pci(folder)?)));
        let above: Vec<_> = above.take(2).collect();
        if let Some((folder, address)) = above.first() {
            let board = ["acpi_index", "index"].map(|file| number(&folder.join(file)));
            names.extend(
                board
                    .into_iter()
                    .flatten()
                    .map(|index| format!("eno{index}")),
            );
            names.extend(address.names(&format!("p{}s{}", address.bus, address.device)));
            let slots = above.iter().filter_map(|(_, address)| slot(sys, address));
            names.extend(slots.flat_map(|slot| address.names(&format!("s{slot}"))));
        }
    }
    if let Some(Mac(bytes)) = mac {
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        names.push(format!("enx{}", digits.collect::<String>()));
    }
    names
}

/// A PCI device's address, as in `0000:00:03.0`.
struct Pci {
    domain: u32,
    bus: u32,
    device: u32,
    function: u32,
}

/// The address that this folder of a device is called by, if it is a PCI device's.
fn pci(folder: &Path) -> Option<Pci> {
    let (place, function) = folder.file_name()?.to_str()?.split_once('.')?;
    let mut parts = place.split(':');
    let mut hex = |length| {
        let part = parts.next()?;
        (part.len() == length).then(|| u32::from_str_radix(part, 16).ok())?
    };
    let address = Pci {
        domain: hex(4)?,
        bus: hex(2)?,
        device: hex(2)?,
        function: function.parse().ok()?,
    };
    parts.next().is_none().then_some(address)
}

impl Pci {
    /// `enp0s3` of `p0s3`, with the function where it is not the first, and the domain likewise.
    fn names(&self, place: &str) -> Vec<String> {
        let domain = match self.domain {
            0 => String::new(),
            domain => format!("P{domain}"),
        };
        let name = format!("en{domain}{place}");
        let with_function = format!("{name}f{}", self.function);
        match self.function {
            0 => vec![name, with_function],
            _ => vec![with_function],
        }
    }
}

/// The number of the slot that this device is in, if the machine has one for it.
fn slot(sys: &Path, address: &Pci) -> Option<u32> {
    let Pci {
        domain,
        bus,
        device,
        ..
    } = address;
    let wanted = format!("{domain:04x}:{bus:02x}:{device:02x}");
    let slots = fs::read_dir(sys.join("bus/pci/slots")).ok()?;
    slots.flatten().find_map(|slot| {
        let place = fs::read_to_string(slot.path().join("address")).ok()?;
        (place.trim() == wanted).then(|| slot.file_name().to_str()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_interface_is_known_by_slot_place_board_and_address() {
        let sys = tempfile::tempdir().unwrap();
        let at = |path: &str| sys.path().join(path);
        let folder = |path: &str| fs::create_dir_all(at(path)).unwrap();
        let device = "devices/pci0000:00/0000:00:12.0/virtio2";
        folder(device);
        folder("class/net/eth0");
        symlink(at(device), at("class/net/eth0/device")).unwrap();
        for (name, address) in [("3", "0000:00:03"), ("18", "0000:00:12")] {
            let slot = format!("bus/pci/slots/{name}");
            folder(&slot);
            fs::write(at(&slot).join("address"), format!("{address}\n")).unwrap();
        }
        fs::write(at("devices/pci0000:00/0000:00:12.0/acpi_index"), "1\n").unwrap();
        let names = udev_names(sys.path(), "eth0", Some(Mac([0x52, 0x54, 0, 1, 2, 0xab])));
        let expected = [
            "eno1",
            "enp0s18",
            "enp0s18f0",
            "ens18",
            "ens18f0",
            "enx5254000102ab",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn one_in_a_bridge_has_the_bridges_slot_and_one_without_a_device_only_its_address() {
        let sys = tempfile::tempdir().unwrap();
        let at = |path: &str| sys.path().join(path);
        let device = "devices/pci0000:00/0000:00:1c.0/0001:0a:00.1";
        for folder in [
            device,
            "class/net/eth0",
            "class/net/eth1",
            "bus/pci/slots/7",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        symlink(at(device), at("class/net/eth0/device")).unwrap();
        fs::write(at("bus/pci/slots/7/address"), "0000:00:1c").unwrap();
        let names = udev_names(sys.path(), "eth0", None);
        assert_eq!(names, ["enP1p10s0f1", "enP1s7f1"]);
        assert_eq!(udev_names(sys.path(), "eth1", None), [""; 0]);
    }
}
