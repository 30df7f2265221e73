//! VM exits: how often a guest under KVM had to leave its processor to the host, and why. Unlike times
//! they don't depend on what else the host does, and they are what a boot or a repair costs on any host.

use std::fs;
use std::ops::Sub;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Where KVM counts them, a folder a machine, named after its QEMU's process (virt/kvm/kvm_main.c).
const COUNTERS: &str = "/sys/kernel/debug/kvm";

/// The exits of all of a machine's processors, since it was made or between two instants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exits {
    /// All of them.
    pub all: u64,
    /// For port I/O.
    pub port_io: u64,
    /// For memory-mapped I/O.
    pub mmio: u64,
    /// For an interrupt of the host.
    pub interrupts: u64,
    /// Because the processor had nothing to do.
    pub halts: u64,
    /// By a hypercall, as ptp_kvm makes one for each reading.
    pub hypercalls: u64,
}

impl Exits {
    /// Those of the machine of this QEMU; none where KVM does not say, which takes root, debugfs and
    /// KVM.
    #[must_use]
    pub fn of(qemu_pid: u32) -> Option<Self> {
        Self::read(Path::new(COUNTERS), qemu_pid)
    }

    fn read(folder: &Path, qemu_pid: u32) -> Option<Self> {
        let prefix = format!("{qemu_pid}-");
        let machine = fs::read_dir(folder).ok()?.flatten().find(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with(&prefix)
        })?;
        let count = |name: &str| -> Option<u64> {
            let text = fs::read_to_string(machine.path().join(name)).ok()?;
            text.trim().parse().ok()
        };
        Some(Self {
            all: count("exits")?,
            port_io: count("io_exits")?,
            mmio: count("mmio_exits")?,
            interrupts: count("irq_exits")?,
            halts: count("halt_exits")?,
            hypercalls: count("hypercalls")?,
        })
    }
}

impl Sub for Exits {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            port_io: self.port_io.saturating_sub(before.port_io),
            mmio: self.mmio.saturating_sub(before.mmio),
            interrupts: self.interrupts.saturating_sub(before.interrupts),
            halts: self.halts.saturating_sub(before.halts),
            hypercalls: self.hypercalls.saturating_sub(before.hypercalls),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_those_of_the_machine_s_own_process() {
        let folder = tempfile::tempdir().unwrap();
        for (machine, exits) in [("12-10", "7\n"), ("123-10", "31308\n")] {
            let machine = folder.path().join(machine);
            fs::create_dir(&machine).unwrap();
            for name in ["exits", "io_exits", "mmio_exits", "irq_exits", "halt_exits"] {
                fs::write(machine.join(name), exits).unwrap();
            }
            fs::write(machine.join("hypercalls"), "40\n").unwrap();
        }
        let exits = Exits::read(folder.path(), 12).unwrap();
        assert_eq!((exits.all, exits.hypercalls), (7, 40));
        let later = Exits::read(folder.path(), 123).unwrap();
        assert_eq!((later - exits).all, 31_301);
        assert_eq!(Exits::read(folder.path(), 1), None);
        assert_eq!(Exits::read(&folder.path().join("none"), 12), None);
    }
}
