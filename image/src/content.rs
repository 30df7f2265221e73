//! The entries of `[[package]]`, `[[program]]`, `[[tree]]`, `[[symlink]]` and `[[dir]]`: read once, and
//! from then on the same on every machine.
//!
//! [`load`] brings them together in that order. `folder` reads trees, `packaged` what packages have,
//! `program` finds a program's libraries; `gathered` is what they put it all into, by `patterns` where
//! not all of it goes in.

mod error;
mod folder;
mod gathered;
mod packaged;
mod patterns;
mod program;

use std::path::Path;

use crate::cpio::{Entry, Kind, Tree};
use crate::deb::PackageId;
use crate::hash::Sha256Hex;
use crate::spec::{ProgramSource, Spec};

use folder::Walk;
use gathered::Gathered;
use packaged::Packages;

pub use error::ContentError;
pub use packaged::{Fetched, PackageFile};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Files, links and folders.
    pub tree: Tree,
    /// The packages that they come from, sorted.
    pub packages: Vec<PackageId>,
    /// Packages of `[[package]]` whose installation would have run scripts, and which.
    pub scripts: Vec<(String, Vec<&'static str>)>,
}

/// Reads all of it. Relative sources are relative to `base`, `guest.toml`'s folder; `fetched` has the
/// packages that the spec wants. A `[[file]]`, a `[[symlink]]` or a `[[dir]]` takes precedence over what a
/// tree or a package has in its place.
///
/// # Errors
/// [`ContentError`]
pub fn load(spec: &Spec, base: &Path, fetched: &Fetched) -> Result<Content, ContentError> {
    let mut all = Gathered::default();
    let mut packages = Packages::new(fetched);
    for package in &spec.content.packages {
        packages.take(package, &mut all)?;
    }
    for program in &spec.content.programs {
        match &program.source {
            ProgramSource::File { file, root } => {
                program::take_file(program, &base.join(file), &base.join(root), &mut all)?;
            }
            ProgramSource::Package(wanted) => packages.take_program(program, wanted, &mut all)?,
        }
    }
    for tree in &spec.content.trees {
        Walk::new(tree, base)?.take(&mut all)?;
    }
    for link in &spec.content.symlinks {
        all.replace(&link.path, "[[symlink]]", Entry::symlink(&link.target))?;
    }
    for dir in &spec.content.dirs {
        let entry = Entry {
            uid: dir.uid,
            gid: dir.gid,
            ..Entry::directory(dir.mode)
        };
        all.replace(&dir.path, "[[dir]]", entry)?;
    }
    // The bytes of these are read with the spec; here they only take their places.
    for file in &spec.files {
        all.replace(&file.path, "[[file]]", Entry::file(Vec::new(), 0))?;
    }
    all.check(spec)?;
    for file in &spec.files {
        all.remove(&file.path);
    }
    let (packages, scripts) = packages.used();
    Ok(Content {
        tree: all.tree,
        packages,
        scripts,
    })
}

/// Tells one content from another, permissions and owners included.
#[must_use]
pub fn digest(tree: &Tree) -> Sha256Hex {
    let said: Vec<String> = tree
        .iter()
        .map(|(path, entry)| {
            let (what, bytes) = match &entry.kind {
                Kind::File(bytes) => ("file", bytes.as_slice()),
                Kind::Symlink(target) => ("link", target.as_bytes()),
                Kind::Directory | Kind::CharacterDevice { .. } => ("dir", [].as_slice()),
            };
            let (mode, hash) = (entry.permissions, Sha256Hex::of(bytes));
            format!("{path}\0{what} {mode:o} {} {} {hash}", entry.uid, entry.gid)
        })
        .collect();
    let parts: Vec<&[u8]> = said.iter().map(String::as_bytes).collect();
    Sha256Hex::of_parts(&parts)
}
