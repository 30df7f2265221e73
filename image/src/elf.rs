//! What an ELF file says of itself, as far as the kernel and a dynamic linker read it to start it.

use goblin::elf::Elf;
use goblin::elf::header::{EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64, ET_DYN, ET_EXEC};

/// How an ELF file begins.
pub const MAGIC: &[u8] = b"\x7fELF";

/// `DT_FLAGS_1`: no library is looked for in the linker's own folders (glibc, elf/elf.h).
const DF_1_NODEFLIB: u64 = 0x800;

/// A program or library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Which processor it is for (`EM_*`).
    machine: u16,
    /// Whether it has 64-bit addresses.
    is_64: bool,
    /// Whether it can be started or loaded: it is no object file and no core dump.
    pub is_loadable: bool,
    /// The dynamic linker that it asks for (`PT_INTERP`); none where it is static, or a library.
    pub interpreter: Option<String>,
    /// The name that it carries (`DT_SONAME`).
    pub soname: Option<String>,
    /// The libraries that it needs (`DT_NEEDED`), in its order.
    pub needed: Vec<String>,
    /// Where libraries are looked for, its own and those of what it loads (`DT_RPATH`).
    pub rpath: Vec<String>,
    /// Where its own libraries are looked for (`DT_RUNPATH`).
    pub runpath: Vec<String>,
    /// Whether the linker's own folders don't count for it.
    pub no_default_folders: bool,
}

impl Object {
    /// Reads one.
    ///
    /// # Errors
    /// It is none, or a broken one.
    pub fn parse(bytes: &[u8]) -> Result<Self, goblin::error::Error> {
        let elf = Elf::parse(bytes)?;
        let owned = |names: &[&str]| -> Vec<String> {
            let folders = names.iter().flat_map(|names| names.split(':'));
            let folders = folders.filter(|folder| !folder.is_empty());
            folders.map(str::to_owned).collect()
        };
        let flags = elf.dynamic.as_ref().map_or(0, |d| d.info.flags_1);
        Ok(Self {
            machine: elf.header.e_machine,
            is_64: elf.is_64,
            is_loadable: matches!(elf.header.e_type, ET_EXEC | ET_DYN),
            interpreter: elf.interpreter.map(str::to_owned),
            soname: elf.soname.map(str::to_owned),
            needed: elf.libraries.iter().map(|&name| name.to_owned()).collect(),
            rpath: owned(&elf.rpaths),
            runpath: owned(&elf.runpaths),
            no_default_folders: flags & DF_1_NODEFLIB != 0,
        })
    }

    /// Whether an x86-64 kernel starts it. Distributions' kernels start programs of 32 bits too.
    #[must_use]
    pub fn runs_on_x86_64(&self) -> bool {
        match self.machine {
            EM_X86_64 => true,
            EM_386 => !self.is_64,
            _ => false,
        }
    }

    /// Whether the two can be one process.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        self.machine == other.machine && self.is_64 == other.is_64
    }

    /// The processor's usual name.
    #[must_use]
    pub fn machine(&self) -> String {
        let name = match self.machine {
            EM_X86_64 => "x86-64",
            EM_386 => "i386",
            EM_AARCH64 => "arm64",
            EM_ARM => "arm",
            EM_RISCV => "riscv",
            other => return format!("the processor with ELF number {other}"),
        };
        name.to_owned()
    }
}
