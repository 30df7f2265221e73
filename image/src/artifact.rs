//! The files that a build gives, and their names.

/// The file name of the kernel for direct boot.
pub const KERNEL: &str = "vmlinuz";
/// The file name of the initrd for direct boot.
pub const INITRD: &str = "initrd.img";
/// The file name of the kernel command line for direct boot, one line.
pub const CMDLINE: &str = "cmdline";

/// The file name of the unified kernel image, an EFI program.
pub const UKI: &str = "noonmark.efi";
/// The file name of the disk.
pub const DISK: &str = "disk.img";

/// The file name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// The file name of the software bill of materials, CycloneDX in JSON.
pub const SBOM: &str = "sbom.cdx.json";

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its file name, e.g. [`INITRD`].
    pub name: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}
