//! The build itself: spec, kernel, programs and files in, artifacts out.

use std::fmt;

use goblin::elf::{Elf, header::EM_X86_64, program_header::PT_INTERP};
use thiserror::Error;

use crate::cpio::{self, CpioError, Kind, Tree};
use crate::kernel::Kernel;
use crate::spec::{LoadedFile, Spec};
use crate::{compress, initrd};

/// The file name of the kernel for direct boot.
pub const KERNEL: &str = "vmlinuz";
/// The file name of the initrd for direct boot.
pub const INITRD: &str = "initrd.img";
/// The file name of the kernel command line for direct boot, one line.
pub const CMDLINE: &str = "cmdline";

/// Where PID 1's program is.
const INIT: &str = "/init";

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
    /// The `[[file]]` contents, from [`Spec::load_files`].
    pub files: &'a [LoadedFile],
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

/// Sizes in bytes of artifacts and of what is in them, for people to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SizeTable(pub Vec<(String, u64)>);

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
    /// Something is larger than it may be.
    #[error(
        "{what} has {size_kib} KiB, over the {limit_kib} KiB of `{key}`; make it smaller or raise \
         the budget. What takes the space:\n{table}"
    )]
    OverBudget {
        /// What is too large.
        what: &'static str,
        /// The key that limits it.
        key: &'static str,
        /// Its size, rounded up.
        size_kib: u64,
        /// The limit.
        limit_kib: u64,
        /// The sizes.
        table: SizeTable,
    },
}

/// Builds an image.
///
/// # Errors
/// If an input can't be part of one, or the image is over budget.
pub fn build(inputs: &Inputs<'_>) -> Result<Outputs, BuildError> {
    check_program(INIT, inputs.init)?;
    if let Some(fault) = inputs.fault {
        check_program(initrd::FAULT_PROGRAM, fault)?;
    }
    let spec = inputs.spec;
    let tree = initrd::tree(inputs);
    let archive = cpio::write(&tree, spec.image.source_date_seconds())?;
    let compressed =
        compress::compress(&archive, spec.initrd.compression).map_err(BuildError::Compress)?;
    let sizes = sizes(inputs, &tree, archive.len(), compressed.len());
    let budget = spec.budget;
    sizes.check(INIT, inputs.init.len(), "budget.init_kib", budget.init_kib)?;
    sizes.check(
        INITRD,
        compressed.len(),
        "budget.initrd_kib",
        budget.initrd_kib,
    )?;
    let cmdline = cmdline(spec);
    Ok(Outputs {
        artifacts: vec![
            Artifact {
                name: KERNEL,
                bytes: inputs.kernel.image.clone(),
            },
            Artifact {
                name: INITRD,
                bytes: compressed,
            },
            Artifact {
                name: CMDLINE,
                bytes: format!("{cmdline}\n").into_bytes(),
            },
        ],
        cmdline,
        sizes,
    })
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

/// What takes how much space, the artifacts first, then what is in the initrd, largest first.
fn sizes(inputs: &Inputs<'_>, tree: &Tree, archive_len: usize, initrd_len: usize) -> SizeTable {
    let mut contents: Vec<_> = tree
        .iter()
        .filter_map(|(path, entry)| match &entry.kind {
            Kind::File(content) => Some((format!("/{path}"), content.len())),
            _ => None,
        })
        .collect();
    contents.sort_by_key(|(_, len)| std::cmp::Reverse(*len));
    let artifacts = [
        (KERNEL.to_string(), inputs.kernel.image.len()),
        (INITRD.to_string(), initrd_len),
        (format!("{INITRD}, unpacked"), archive_len),
    ];
    SizeTable(
        artifacts
            .into_iter()
            .chain(contents)
            .map(|(name, len)| (name, len as u64))
            .collect(),
    )
}

impl SizeTable {
    fn check(
        &self,
        what: &'static str,
        len: usize,
        key: &'static str,
        limit_kib: Option<u32>,
    ) -> Result<(), BuildError> {
        let size_kib = len.div_ceil(1024) as u64;
        match limit_kib.map(u64::from) {
            Some(limit_kib) if size_kib > limit_kib => Err(BuildError::OverBudget {
                what,
                key,
                size_kib,
                limit_kib,
                table: self.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// A line each: the size in bytes, right-aligned, then the name.
impl fmt::Display for SizeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(_, size)| size.to_string().len()).max();
        for (index, (name, size)) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(
                f,
                "{newline}{size:>width$}  {name}",
                width = width.unwrap_or(0)
            )?;
        }
        Ok(())
    }
}
