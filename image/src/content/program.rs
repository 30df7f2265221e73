//! `[[program]]`: a program, its dynamic linker and the libraries that it needs, found as the linker
//! would find them where it comes from, and put where the linker finds them in the image.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cpio::Entry;
use crate::ldconf;
use crate::loader::{self, Folders, LoaderError, Program, Root};
use crate::lookup::{self, Last};
use crate::spec::ProgramSpec;

use super::error::ContentError;
use super::gathered::Gathered;

/// A folder of this machine that is the root of a system.
#[derive(Debug)]
struct Folder(PathBuf);

/// Takes a program of this machine, `file`, whose libraries lie below the folder `root`.
pub(super) fn take_file(
    spec: &ProgramSpec,
    file: &Path,
    root: &Path,
    all: &mut Gathered,
) -> Result<(), ContentError> {
    let bad = |problem: String| ContentError::Program {
        path: spec.path.clone(),
        problem,
    };
    let unreadable = |path: &Path, error| bad(format!("can't read {}: {error}", path.display()));
    let bytes = fs::read(file).map_err(|e| unreadable(file, e))?;
    let real = |path: &Path| fs::canonicalize(path).map_err(|e| unreadable(path, e));
    // What is said of $ORIGIN begins at the folder, whatever the file there is a link to.
    let (folder, name) = (file.parent(), file.file_name().unwrap_or_default());
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    let file = real(folder.unwrap_or(Path::new(".")))?.join(name);
    let root = real(root)?;
    let below = file.strip_prefix(&root).ok().and_then(Path::to_str);
    let Some(below) = below else {
        return Err(bad(format!(
            "its source {} is not below its root {}, or has a name that is no UTF-8",
            file.display(),
            root.display()
        )));
    };
    take(spec, &Folder(root), &format!("/{below}"), &bytes, all)?;
    Ok(())
}

/// Takes the program that lies at `at` in a root; gives the paths there of all that was taken.
pub(super) fn take(
    spec: &ProgramSpec,
    root: &dyn Root,
    at: &str,
    bytes: &[u8],
    all: &mut Gathered,
) -> Result<Vec<String>, ContentError> {
    let program = Program {
        at,
        place: &spec.path,
        bytes,
    };
    let folders = Folders {
        library_path: "",
        configured: &ldconf::folders(root),
    };
    let needed = loader::needs(root, program, folders).map_err(|error| ContentError::Program {
        path: spec.path.clone(),
        problem: missing(&error),
    })?;
    let origin = format!("[[program]] {}", spec.path);
    let mut taken = vec![at.to_owned()];
    all.share(&spec.path, &origin, Entry::file(bytes.to_vec(), 0o755))?;
    for file in needed {
        if let Some(link) = file.link {
            all.share(&link, &origin, Entry::symlink(&file.place))?;
        }
        all.share(&file.place, &origin, Entry::file(file.bytes, 0o755))?;
        taken.push(file.at);
    }
    Ok(taken)
}

fn missing(error: &LoaderError) -> String {
    let way_out = match error {
        LoaderError::NotElf { .. } => {
            "; a script is a [[file]], and what runs it a [[program]] of its own"
        }
        LoaderError::Interpreter { .. } | LoaderError::Library { .. } => {
            ", and it is not there; install the package that has it, or name the `root` or the \
             `package` in which it is"
        }
        LoaderError::NotLinked(_) | LoaderError::Machine { .. } | LoaderError::TooMany(_) => "",
    };
    format!("{error}{way_out}")
}

impl Folder {
    /// Where a path leads that must not lead out of the folder.
    fn path(&self, path: &str) -> Option<PathBuf> {
        let link = |path: &str| {
            let target = fs::read_link(self.0.join(path)).ok()?;
            target.to_str().map(str::to_owned)
        };
        let resolved = lookup::resolve(path, Last::Followed, link)?;
        Some(self.0.join(resolved))
    }
}

impl Root for Folder {
    fn file(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        fs::read(self.path(path)?).ok().map(Cow::Owned)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let listing = self.path(folder).and_then(|path| fs::read_dir(path).ok());
        let entries = listing.into_iter().flatten().filter_map(Result::ok);
        let names = entries.map(|entry| entry.file_name());
        names.filter_map(|name| name.into_string().ok()).collect()
    }
}
