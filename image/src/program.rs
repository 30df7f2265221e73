//! A program of a distribution's packages as files of an image: the program, its dynamic linker,
//! and the shared libraries that they need, directly or through each other.

use std::ops::Range;
use std::path::PathBuf;

use goblin::elf::Elf;
use thiserror::Error;

use crate::cpio::Kind;
use crate::deb::Deb;
use crate::ldconf;
use crate::loader::{self, Folders, LoaderError, Program};
use crate::lookup;
use crate::package::{self, PackageError};
use crate::spec::{FileSpec, LoadedFile};

/// Where `e_shoff` lies in a 64-bit ELF header, and where `e_shentsize`, `e_shnum` and `e_shstrndx`
/// do (ELF specification, "ELF Header").
const SECTION_TABLE: Range<usize> = 0x28..0x30;
const SECTION_COUNTS: Range<usize> = 0x3a..0x40;

/// Why a program can't be taken out of its packages.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// They can't be unpacked.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// It is in none of them.
    #[error("none of the packages {packages} has the file {program}")]
    Missing {
        /// Its path in the package.
        program: String,
        /// The packages' names.
        packages: String,
    },
    /// It can't be started with what they have.
    #[error("the packages {packages} are not enough: {source}")]
    Loader {
        /// The packages' names.
        packages: String,
        /// What is missing.
        source: LoaderError,
    },
}

/// The program at `program` (its path in its package, `usr/sbin/chronyd`) with all that it needs to
/// run, at the paths at which it is looked for in the guest. Sorted by these paths.
///
/// # Errors
/// [`ProgramError`].
pub fn with_libraries(
    packages: &[Deb<'_>],
    program: &str,
) -> Result<Vec<LoadedFile>, ProgramError> {
    let names: Vec<&str> = packages.iter().map(|deb| &*deb.id.package).collect();
    let tree = package::unpack(packages)?.tree;
    let path = format!("/{program}");
    let Some(Kind::File(bytes)) = lookup::find(&tree, &path).map(|(_, entry)| &entry.kind) else {
        return Err(ProgramError::Missing {
            program: program.into(),
            packages: names.join(", "),
        });
    };
    let needed = loader::needs(
        &tree,
        Program {
            at: &path,
            place: &path,
            bytes,
        },
        Folders {
            library_path: "",
            configured: &ldconf::folders(&tree),
        },
    )
    .map_err(|source| ProgramError::Loader {
        packages: names.join(", "),
        source,
    })?;
    let mut files = vec![loaded(path.clone(), program, bytes.clone())];
    let needed = needed.into_iter();
    files.extend(needed.map(|file| loaded(file.place, &file.at, file.bytes)));
    files.sort_by(|a, b| a.spec.path.cmp(&b.spec.path));
    Ok(files)
}

/// The dynamic linker that a program asks for (PT_INTERP); none where it is static.
///
/// # Errors
/// It is no ELF program.
pub fn interpreter(program: &[u8]) -> Result<Option<String>, goblin::error::Error> {
    Ok(Elf::parse(program)?.interpreter.map(Into::into))
}

/// A program without what no loader reads: the section table, and the sections behind the last
/// segment, which are mostly a debugger's. It runs as before (ELF specification, "Program Loading").
#[must_use]
pub fn without_unloaded(mut program: Vec<u8>) -> Vec<u8> {
    let Ok(elf) = Elf::parse(&program) else {
        return program;
    };
    let segments = elf.program_headers.iter();
    let end = segments
        .map(|segment| segment.p_offset.saturating_add(segment.p_filesz))
        .max();
    let is_64 = elf.is_64;
    let Some(end) = end.and_then(|end| usize::try_from(end).ok()) else {
        return program;
    };
    if is_64 && end < program.len() {
        program.truncate(end);
        program[SECTION_TABLE].fill(0);
        program[SECTION_COUNTS].fill(0);
    }
    program
}

fn loaded(path: String, source: &str, bytes: Vec<u8>) -> LoadedFile {
    LoadedFile {
        spec: FileSpec {
            path,
            source: PathBuf::from(source),
            mode: 0o755,
            uid: 0,
            gid: 0,
        },
        bytes,
    }
}
