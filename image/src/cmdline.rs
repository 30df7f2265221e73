//! The kernel command line of an image.

use crate::spec::Spec;

/// What every image's kernel is told, and why.
const KERNEL_PARAMETERS: [&str; 6] = [
    // Where the host reads the console.
    "console=ttyS0",
    // Warnings and worse only: an emulated serial port takes about 0.1 ms for each character.
    "quiet",
    // After a panic restart at once; a host that wants to see it runs the VM with `-no-reboot`.
    "panic=-1",
    // PID 1's log is never cut short by the kernel's rate limit for user space.
    "printk.devkmsg=on",
    // `ptp_kvm` pairs the host's time with kvm-clock alone, and a kernel whose TSC looks good
    // prefers that. Where there is no kvm-clock, the kernel takes the best it has.
    "clocksource=kvm-clock",
    // ACPI names the buses. Without this a kernel on q35 asks each slot of 256 buses besides
    // (`pcibios_fixup_peer_bridges`, arch/x86/pci/legacy.c): 16,000 of a boot's 29,000 VM exits.
    "pci=lastbus=0",
];

/// What every image's kernel is told, then the spec's own words.
#[must_use]
pub fn of(spec: &Spec) -> String {
    let mut words = KERNEL_PARAMETERS.to_vec();
    if !spec.kernel.cmdline.is_empty() {
        words.push(&spec.kernel.cmdline);
    }
    words.join(" ")
}
