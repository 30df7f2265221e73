//! The build itself: spec, kernel, programs and files in, artifacts out.

use std::collections::BTreeMap;

use goblin::elf::{Elf, header::EM_X86_64, program_header::PT_INTERP};
use thiserror::Error;

use crate::artifact::{Artifact, CMDLINE, DISK, INITRD, KERNEL, MANIFEST, SBOM, UKI};
use crate::budget::{self, OverBudget};
use crate::cpio::{self, CpioError};
use crate::disk::{self, DiskError};
use crate::exec::{self, ExecError};
use crate::fat::{self, FatError};
use crate::inputs::Inputs;
use crate::manifest::Manifest;
use crate::uki::{self, UkiError};
use crate::{cmdline, compress, initrd, sbom};

/// Where firmware looks for the program to start on a disk that it has no boot entry for (UEFI
/// specification, 3.5.1.1).
const BOOT_PROGRAM: &str = "EFI/BOOT/BOOTX64.EFI";

/// What a build gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// The kernel command line for direct boot; the same as artifact [`CMDLINE`].
    pub cmdline: String,
    /// The files, in a fixed order.
    pub artifacts: Vec<Artifact>,
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
    /// A service of the spec's can't be started.
    #[error(transparent)]
    Service(#[from] ExecError),
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
    for (path, program) in inputs.programs() {
        check_program(path, program)?;
    }
    let spec = inputs.spec;
    let tree = initrd::tree(inputs);
    exec::check(spec, &tree)?;
    let archive = cpio::write(&tree, spec.image.source_date_seconds())?;
    let compressed =
        compress::compress(&archive, spec.initrd.compression).map_err(BuildError::Compress)?;
    let cmdline = cmdline::of(spec);
    let artifact = |name, bytes| Artifact { name, bytes };
    let mut artifacts = vec![
        artifact(KERNEL, inputs.kernel.image.clone()),
        artifact(INITRD, compressed),
        artifact(CMDLINE, format!("{cmdline}\n").into_bytes()),
    ];
    if let Some(stub) = inputs.stub {
        let sections = uki::Sections {
            os_release: &os_release(inputs),
            cmdline: &cmdline,
            release: &inputs.kernel.release,
            initrd: &artifacts[1].bytes,
            kernel: &inputs.kernel.image,
        };
        let uki = uki::assemble(&stub.bytes, &sections)?;
        let volume = fat::write(&fat::Volume {
            label: &spec.image.label,
            date: spec.image.source_date,
            files: &BTreeMap::from([(BOOT_PROGRAM.to_string(), uki.as_slice())]),
        })?;
        let disk = disk::write(&volume)?;
        artifacts.push(artifact(UKI, uki));
        artifacts.push(artifact(DISK, disk));
    }
    budget::check(&spec.budget, inputs.init, &artifacts, &tree)?;
    let manifest = Manifest::new(inputs, &artifacts);
    artifacts.push(artifact(SBOM, sbom::write(&manifest, inputs.provenance)));
    artifacts.push(artifact(MANIFEST, manifest.to_json()));
    Ok(Outputs { cmdline, artifacts })
}

/// What boot menus show.
fn os_release(inputs: &Inputs<'_>) -> String {
    let (name, release) = (&inputs.spec.image.name, &inputs.kernel.release);
    format!("ID=noonmark\nNAME=\"{name}\"\nPRETTY_NAME=\"{name} (Linux {release})\"\n")
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
