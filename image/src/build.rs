//! The build itself: spec, kernel, programs and files in, artifacts out.

use std::collections::BTreeMap;

use goblin::elf::{Elf, header::EM_X86_64, program_header::PT_INTERP};
use noonmark_contract::config::system::SEED_PROGRAM;
use thiserror::Error;

use crate::cpio::{self, CpioError};
use crate::disk::{self, DiskError};
use crate::fat::{self, FatError};
use crate::kernel::Kernel;
use crate::manifest::{Manifest, Provenance};
use crate::sizes::{OverBudget, SizeTable};
use crate::spec::{LoadedFile, Spec};
use crate::uki::{self, Stub, UkiError};
use crate::{compress, initrd, sbom};

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

/// Where firmware looks for the program to start on a disk that it has no boot entry for (UEFI
/// specification, 3.5.1.1).
const BOOT_PROGRAM: &str = "EFI/BOOT/BOOTX64.EFI";

/// What every image's kernel is told, and why.
const KERNEL_PARAMETERS: [&str; 5] = [
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
];

/// Everything that an image is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What the image is to be.
    pub spec: &'a Spec,
    /// The kernel with the modules that the spec wants.
    pub kernel: &'a Kernel,
    /// PID 1's program, a static ELF executable.
    pub init: &'a [u8],
    /// The fault program: given for a test image, none for a base image. Nothing else tells a
    /// test image from a base image.
    pub fault: Option<&'a [u8]>,
    /// The program that sets up the network; it goes in where the spec asks for a network.
    pub net: &'a [u8],
    /// The NTP client; it goes in where the spec names time servers.
    pub ntp: &'a [u8],
    /// The program that reads seeds; it goes in where the spec lets an image have one.
    pub seed: &'a [u8],
    /// The `[[file]]` contents, from [`Spec::load_files`].
    pub files: &'a [LoadedFile],
    /// The EFI stub; none is an image for direct boot alone, without [`UKI`] and [`DISK`].
    pub stub: Option<&'a Stub>,
    /// What else it was made of, for the manifest.
    pub provenance: &'a Provenance,
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its file name, e.g. [`INITRD`].
    pub name: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What a build gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// The kernel command line for direct boot; the same as artifact [`CMDLINE`].
    pub cmdline: String,
    /// The files, in a fixed order.
    pub artifacts: Vec<Artifact>,
    /// What takes how much space.
    pub sizes: SizeTable,
}

impl Outputs {
    /// The artifact of this name.
    #[must_use]
    pub fn artifact(&self, name: &str) -> Option<&[u8]> {
        let found = self.artifacts.iter().find(|a| a.name == name)?;
        Some(&found.bytes)
    }
}

/// Inputs that give no image.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A program can't run in the guest.
    #[error("the program {name} can't run in the guest: {problem}")]
    Program {
        /// Its path in the guest.
        name: String,
        /// Why.
        problem: String,
    },
    /// A file doesn't fit into an initrd.
    #[error("initrd: {0}")]
    Cpio(#[from] CpioError),
    /// The initrd can't be compressed.
    #[error("initrd: can't compress it: {0}")]
    Compress(std::io::Error),
    /// The unified kernel image can't be made.
    #[error(transparent)]
    Uki(#[from] UkiError),
    /// The EFI system partition can't be made.
    #[error("EFI system partition: {0}")]
    Fat(#[from] FatError),
    /// The disk can't be made.
    #[error("disk image: {0}")]
    Disk(#[from] DiskError),
    /// Something is larger than it may be.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// Builds an image.
///
/// # Errors
/// If an input can't be part of one, or the image is over budget.
pub fn build(inputs: &Inputs<'_>) -> Result<Outputs, BuildError> {
    check_program(initrd::INIT_PROGRAM, inputs.init)?;
    if let Some(fault) = inputs.fault {
        check_program(initrd::FAULT_PROGRAM, fault)?;
    }
    let spec = inputs.spec;
    if spec.wants_network() {
        check_program(initrd::NET_PROGRAM, inputs.net)?;
    }
    if spec.wants_ntp() {
        check_program(initrd::NTP_PROGRAM, inputs.ntp)?;
    }
    if spec.seed.enabled {
        check_program(SEED_PROGRAM, inputs.seed)?;
    }
    let tree = initrd::tree(inputs);
    let archive = cpio::write(&tree, spec.image.source_date_seconds())?;
    let compressed =
        compress::compress(&archive, spec.initrd.compression).map_err(BuildError::Compress)?;
    let initrd_len = compressed.len();
    let cmdline = cmdline(spec);
    let artifact = |name, bytes| Artifact { name, bytes };
    let mut artifacts = vec![
        artifact(KERNEL, inputs.kernel.image.clone()),
        artifact(INITRD, compressed),
        artifact(CMDLINE, format!("{cmdline}\n").into_bytes()),
    ];
    let mut disk_len = 0;
    if let Some(stub) = inputs.stub {
        let parts = uki::Parts {
            os_release: &os_release(inputs),
            cmdline: &cmdline,
            release: &inputs.kernel.release,
            initrd: &artifacts[1].bytes,
            kernel: &inputs.kernel.image,
        };
        let uki = uki::assemble(&stub.bytes, &parts)?;
        let volume = fat::write(&fat::Volume {
            label: &spec.image.label,
            date: spec.image.source_date,
            files: &BTreeMap::from([(BOOT_PROGRAM.to_string(), uki.as_slice())]),
        })?;
        let disk = disk::write(&volume)?;
        disk_len = disk.len();
        artifacts.push(artifact(UKI, uki));
        artifacts.push(artifact(DISK, disk));
    }
    let sizes = SizeTable::new(&artifacts, &tree);
    let budget = spec.budget;
    let kib = |limit: Option<u32>| limit.map(u64::from);
    let disk_kib = kib(budget.disk_mib).map(|mib| mib << 10);
    let init_len = inputs.init.len();
    sizes.check("/init", init_len, "budget.init_kib", kib(budget.init_kib))?;
    sizes.check(
        INITRD,
        initrd_len,
        "budget.initrd_kib",
        kib(budget.initrd_kib),
    )?;
    sizes.check(DISK, disk_len, "budget.disk_mib", disk_kib)?;
    let manifest = Manifest::new(inputs, &artifacts);
    artifacts.push(artifact(SBOM, sbom::write(&manifest, inputs.provenance)));
    artifacts.push(artifact(MANIFEST, manifest.to_json()));
    Ok(Outputs {
        cmdline,
        artifacts,
        sizes,
    })
}

/// What boot menus show.
fn os_release(inputs: &Inputs<'_>) -> String {
    let (name, release) = (&inputs.spec.image.name, &inputs.kernel.release);
    format!("ID=noonmark\nNAME=\"{name}\"\nPRETTY_NAME=\"{name} (Linux {release})\"\n")
}

/// The kernel command line: what every image has, then the spec's own.
#[must_use]
pub fn cmdline(spec: &Spec) -> String {
    let mut words = KERNEL_PARAMETERS.to_vec();
    if !spec.kernel.cmdline.is_empty() {
        words.push(&spec.kernel.cmdline);
    }
    words.join(" ")
}

/// A program must run with nothing but itself: static, and for this processor.
fn check_program(name: &str, bytes: &[u8]) -> Result<(), BuildError> {
    let bad = |problem: String| {
        Err(BuildError::Program {
            name: name.into(),
            problem,
        })
    };
    let elf = match Elf::parse(bytes) {
        Ok(elf) => elf,
        Err(e) => return bad(format!("it is no whole ELF program: {e}")),
    };
    if elf.header.e_machine != EM_X86_64 {
        return bad("it is for another processor than x86-64".into());
    }
    if elf.program_headers.iter().any(|h| h.p_type == PT_INTERP) {
        return bad("it needs a dynamic linker, and the image has none; link it statically".into());
    }
    Ok(())
}
