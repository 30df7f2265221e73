//! Which kernel modules a spec makes necessary, and why.

use noonmark_contract::config::system::FileSystem;

use crate::modules::WantedModule;

use super::{ModulesSpec, Spec};

impl Spec {
    /// The kernel modules that the image should have, those of the clock's best source first.
    #[must_use]
    pub fn wanted_modules(&self) -> Vec<WantedModule> {
        let wanted = |name: &str, needed_by: String, key: Option<&str>, required| WantedModule {
            name: name.into(),
            needed_by,
            key: key.map(Into::into),
            required,
        };
        let mut list = Vec::new();
        for source in &self.clock.sources {
            let Some(driver) = source.driver() else {
                continue;
            };
            let needed_by = format!("the clock source `{source}`");
            let key = Some("clock.sources");
            list.push(wanted(driver.module, needed_by, key, driver.is_required));
        }
        // Status, time and test ports, and what they are plugged into.
        for name in ["virtio_pci", "virtio_console"] {
            list.push(wanted(name, "the status port".into(), None, true));
        }
        // MicroVMs have no PCI: their devices are where ACPI or the kernel command line says.
        let needed_by = "the status port of a microVM".to_string();
        list.push(wanted("virtio_mmio", needed_by, None, false));
        // A kernel that has it built in needs no module; without ACPI there is no button.
        list.push(wanted("button", "the power button".into(), None, false));
        if self.seed.enabled {
            // A kernel without the driver has no seeds.
            let needed_by = "the seed disk".to_string();
            list.push(wanted("virtio_blk", needed_by, Some("seed.enabled"), false));
            // QEMU's firmware configuration, another way to give credentials.
            let needed_by = "the seed's credentials".to_string();
            list.push(wanted(
                "qemu_fw_cfg",
                needed_by,
                Some("seed.enabled"),
                false,
            ));
        }
        for disk in &self.mounts {
            let label = disk.label.as_str();
            let needed_by = || format!("the data disk `{label}`");
            list.push(wanted("virtio_blk", needed_by(), Some("mount"), true));
            if disk.kind == FileSystem::Vfat {
                // Its default character sets, which vfat asks for by name when it is mounted.
                for name in ["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"] {
                    list.push(wanted(name, needed_by(), Some("mount.type"), false));
                }
            }
            let name = disk.kind.name();
            list.push(wanted(name, needed_by(), Some("mount.type"), true));
        }
        if self.seed.enabled && self.seed.cdrom {
            // The buses on which hypervisors put a CD-ROM drive, as far as the kernel knows them.
            for name in ["virtio_scsi", "ata_piix", "ahci", "sd_mod", "sr_mod"] {
                let needed_by = "the seed's CD-ROM drive".to_string();
                list.push(wanted(name, needed_by, Some("seed.cdrom"), false));
            }
        }
        if self.wants_network() {
            let needed_by = "the network".to_string();
            list.push(wanted("virtio_net", needed_by, Some("network"), true));
        }
        if let Some(watchdog) = &self.watchdog {
            let needed_by = "the machine's watchdog".to_string();
            list.push(wanted(
                &watchdog.driver,
                needed_by,
                Some("watchdog.driver"),
                true,
            ));
        }
        let ModulesSpec { load, optional, .. } = &self.modules;
        for (names, key, required) in [
            (load, "modules.load", true),
            (optional, "modules.optional", false),
        ] {
            let listed = |name: &String| wanted(name, format!("`{key}`"), Some(key), required);
            list.extend(names.iter().map(listed));
        }
        list
    }
}
