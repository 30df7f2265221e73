//! A program of a distribution's packages as files of an image: the program, its dynamic linker,
//! and the shared libraries that they need, directly or through each other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use goblin::elf::Elf;
use thiserror::Error;

use crate::deb::{Deb, DebError};
use crate::spec::{FileSpec, LoadedFile};

/// Folders of a package in which the dynamic linker of Debian and Ubuntu finds libraries without
/// being told.
const LIBRARY_FOLDERS: [&str; 4] = [
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib64",
    "usr/lib64",
];

/// Where libraries go in the guest: the first of the linker's own folders.
const GUEST_FOLDER: &str = "/lib/x86_64-linux-gnu";

/// Where `e_shoff` lies in a 64-bit ELF header, and where `e_shentsize`, `e_shnum` and `e_shstrndx`
/// do (ELF specification, "ELF Header").
const SECTION_TABLE: Range<usize> = 0x28..0x30;
const SECTION_COUNTS: Range<usize> = 0x3a..0x40;

/// Why a program can't be taken out of its packages.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// A package can't be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// It is in none of them.
    #[error("none of the packages {packages} has the file {program}")]
    Missing {
        /// Its path in the package.
        program: String,
        /// The packages' names.
        packages: String,
    },
    /// It is no program.
    #[error("{file} of its package is no ELF program: {problem}")]
    NotElf {
        /// The file.
        file: String,
        /// What the reader says.
        problem: goblin::error::Error,
    },
    /// A library is in none of the packages.
    #[error("{needed_by} needs {library}, which none of the packages {packages} has")]
    Library {
        /// The library's name (DT_NEEDED or PT_INTERP).
        library: String,
        /// What needs it.
        needed_by: String,
        /// The packages' names.
        packages: String,
    },
}

/// A library of the packages.
struct Library {
    /// Its path in its package.
    path: String,
    bytes: Vec<u8>,
}

/// The program at `program` (its path in its package, `usr/sbin/chronyd`) with all that it needs to
/// run, at the paths at which it is looked for in the guest. Sorted by these paths.
///
/// Libraries are known by the name that they carry themselves (DT_SONAME), which is what others
/// need them by (ELF specification, "Dynamic Section"); the packages' symbolic links say the same.
///
/// # Errors
/// [`ProgramError`].
pub fn with_libraries(
    packages: &[Deb<'_>],
    program: &str,
) -> Result<Vec<LoadedFile>, ProgramError> {
    let names = || {
        let names: Vec<&str> = packages.iter().map(|deb| &*deb.id.package).collect();
        names.join(", ")
    };
    let mut libraries = BTreeMap::new();
    let mut main = None;
    for deb in packages {
        deb.files(
            |path| path == program || is_library(path),
            |path, bytes| {
                if path == program {
                    main = Some(bytes);
                } else if let Some(name) = soname(&bytes) {
                    let path = path.to_owned();
                    libraries.entry(name).or_insert(Library { path, bytes });
                }
            },
        )?;
    }
    let bytes = main.ok_or_else(|| ProgramError::Missing {
        program: program.into(),
        packages: names(),
    })?;
    let (interpreter, needed) = interpreter_and_needed(program, &bytes)?;
    let mut files = vec![loaded(format!("/{program}"), program, bytes)];
    // The dynamic linker is where the program says, and a library to the others besides.
    if let Some(interpreter) = interpreter {
        let name = interpreter.rsplit('/').next().unwrap_or_default();
        let linker = libraries
            .remove(name)
            .ok_or_else(|| ProgramError::Library {
                library: interpreter.clone(),
                needed_by: program.into(),
                packages: names(),
            })?;
        files.push(loaded(interpreter.clone(), &linker.path, linker.bytes));
    }
    let present = |name: &str, files: &[LoadedFile]| {
        let is_it = |file: &LoadedFile| file.spec.path.ends_with(&format!("/{name}"));
        files.iter().any(is_it)
    };
    let mut missing: Vec<(String, String)> = pairs(program, needed);
    while let Some((name, needed_by)) = missing.pop() {
        if present(&name, &files) {
            continue;
        }
        let library = libraries
            .remove(&name)
            .ok_or_else(|| ProgramError::Library {
                library: name.clone(),
                needed_by,
                packages: names(),
            })?;
        let (_, needed) = interpreter_and_needed(&library.path, &library.bytes)?;
        missing.extend(pairs(&name, needed));
        files.push(loaded(
            format!("{GUEST_FOLDER}/{name}"),
            &library.path,
            library.bytes,
        ));
    }
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

/// Each name with what needs it.
fn pairs(needed_by: &str, names: Vec<String>) -> Vec<(String, String)> {
    let pair = |name| (name, needed_by.to_owned());
    names.into_iter().map(pair).collect()
}

fn is_library(path: &str) -> bool {
    path.rsplit_once('/')
        .is_some_and(|(folder, name)| LIBRARY_FOLDERS.contains(&folder) && name.contains(".so"))
}

/// The name that a library carries; none for a file that is no library.
fn soname(bytes: &[u8]) -> Option<String> {
    Elf::parse(bytes).ok()?.soname.map(Into::into)
}

/// The dynamic linker that a program asks for (PT_INTERP), and the libraries that it needs
/// (DT_NEEDED).
fn interpreter_and_needed(
    file: &str,
    bytes: &[u8],
) -> Result<(Option<String>, Vec<String>), ProgramError> {
    let elf = Elf::parse(bytes).map_err(|problem| ProgramError::NotElf {
        file: file.into(),
        problem,
    })?;
    Ok((
        elf.interpreter.map(Into::into),
        elf.libraries.iter().map(|&name| name.into()).collect(),
    ))
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
