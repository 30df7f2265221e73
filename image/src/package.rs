//! Packages of a distribution as the tree of a root, as if they were installed there: `/usr` merged, as
//! every Debian since 12 and every Ubuntu since 22.04 has it, whether a package's own files lie in `/lib`
//! or in `/usr/lib`. None of their scripts is run.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::cpio::{Entry, Kind, Tree};
use crate::deb::{Deb, DebError};
use crate::layout::{MOUNT_POINTS, RUN, RUN_LINK};
use crate::lookup;

/// Folders that are links to those of the same name in `/usr` (file-hierarchy(7)). So the dynamic linker
/// is found at `/lib64`, where programs ask for it, and scripts' interpreters at `/bin`.
const MERGED: [&str; 6] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// Packages that make no root together.
#[derive(Debug, Error)]
pub enum PackageError {
    /// One can't be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// Two have the same file.
    #[error("the packages {first} and {second} both have the file /{path}, and not the same")]
    Twice {
        /// The file, without the leading `/`.
        path: String,
        /// The package that had it first.
        first: String,
        /// The other one.
        second: String,
    },
}

/// What packages have together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Their files, links and folders.
    pub tree: Tree,
    /// By path, the number of the package that has it; links of the merged `/usr` are no package's.
    pub owners: BTreeMap<String, usize>,
}

/// Unpacks them into one root. What would lie where PID 1 mounts something is left out: nobody could
/// see it.
///
/// # Errors
/// [`PackageError`]
pub fn unpack(packages: &[Deb<'_>]) -> Result<Unpacked, PackageError> {
    let mut all = Unpacked::default();
    for (number, deb) in packages.iter().enumerate() {
        let mut tree = Tree::new();
        deb.unpack(&mut tree, place)?;
        for (path, entry) in tree {
            let path = lookup::place(&all.tree, &path).unwrap_or(path);
            let is_folder = |entry: &Entry| entry.kind == Kind::Directory;
            let same =
                |before: &Entry| *before == entry || (is_folder(before) && is_folder(&entry));
            match all.tree.get(&path) {
                Some(before) if same(before) => continue,
                Some(_) => {
                    let first = all.owners.get(&path).map(|&owner| &packages[owner].id);
                    return Err(PackageError::Twice {
                        first: first.map_or_else(String::new, |id| id.package.clone()),
                        second: deb.id.package.clone(),
                        path,
                    });
                }
                None => {}
            }
            all.owners.insert(path.clone(), number);
            all.tree.insert(path, entry);
        }
    }
    let run = RUN_LINK.trim_start_matches('/');
    let leads_to_run = |entry: &Entry| entry.kind == Kind::Symlink(RUN.to_owned());
    if all.tree.get(run).is_some_and(|entry| !leads_to_run(entry)) {
        let below = format!("{run}/");
        let is_there = |path: &String| path == run || path.starts_with(&below);
        all.tree.retain(|path, _| !is_there(path));
        all.owners.retain(|path, _| !is_there(path));
    }
    for name in MERGED {
        let merged = format!("usr/{name}");
        let below = format!("{merged}/");
        if all.tree.keys().any(|path| path.starts_with(&below)) {
            all.tree.insert(name.to_owned(), Entry::symlink(&merged));
        }
    }
    Ok(all)
}

/// Where a package's file goes; nowhere where it would be hidden.
fn place(path: &str) -> Option<String> {
    let (top, rest) = path.split_once('/').unwrap_or((path, ""));
    if MOUNT_POINTS.iter().any(|(folder, _)| folder[1..] == *top) {
        return None;
    }
    match (MERGED.contains(&top), rest) {
        (true, "") => None,
        (true, _) => Some(format!("usr/{path}")),
        (false, _) => Some(path.to_owned()),
    }
}
