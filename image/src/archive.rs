//! What a tar archive of others, a package's or a container image's layer, has for a tree: in memory,
//! and nothing of it outside the tree.

use std::io::{self, Read};

use tar::EntryType;
use thiserror::Error;

use crate::cpio::{Entry, Kind, Tree};
use crate::lookup;

/// More than this unpacked is no content of an image.
pub const SIZE_MAX: u64 = 8 << 30;

/// An archive that can't be part of an image.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It is none, or broken.
    #[error("it is no whole tar archive, after `{after}`: {source}")]
    Broken {
        /// The last entry that was read.
        after: String,
        /// What the reader says.
        source: io::Error,
    },
    /// A name that no image can have.
    #[error("its entry `{0}` has a name that is outside of the root, empty or no UTF-8")]
    Name(String),
    /// A hard link to what isn't there.
    #[error("its entry `{link}` is a hard link to `{target}`, which is no file before it")]
    HardLink {
        /// The link.
        link: String,
        /// What it leads to.
        target: String,
    },
    /// A device or a pipe.
    #[error("its entry `{name}` is {what}, which no image can have")]
    Kind {
        /// The entry.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// Something lies below what is no folder.
    #[error("its entry `{name}` lies below `{parent}`, which is no folder")]
    Below {
        /// The entry.
        name: String,
        /// What is above it.
        parent: String,
    },
}

/// Puts the archive's entries into the tree, each at the place that `place` gives its path; it may
/// give none, for an entry that is left out. A later entry takes the place of an earlier one, and what
/// is below a link goes to where that leads, as with tar(1) in a root of its own.
///
/// # Errors
/// [`ArchiveError`]; the tree is then no use.
pub fn unpack(
    archive: impl Read,
    tree: &mut Tree,
    place: impl Fn(&str) -> Option<String>,
) -> Result<(), ArchiveError> {
    let mut after = "its beginning".to_owned();
    let broken = |after: &str, source| ArchiveError::Broken {
        after: after.to_owned(),
        source,
    };
    let mut archive = tar::Archive::new(archive.take(SIZE_MAX));
    let entries = archive.entries().map_err(|e| broken(&after, e))?;
    for entry in entries {
        let mut entry = entry.map_err(|e| broken(&after, e))?;
        let name = name(&entry.path_bytes())?;
        if name.is_empty() {
            // The root itself, which every image has.
            continue;
        }
        after.clone_from(&name);
        let Some(path) = place(&name) else { continue };
        let path = settle(tree, &name, &path)?;
        let header = entry.header();
        let number = |number: io::Result<u64>| -> Result<u32, ArchiveError> {
            number
                .and_then(|n| u32::try_from(n).map_err(io::Error::other))
                .map_err(|e| broken(&name, e))
        };
        let mode = number(header.mode().map(u64::from))?;
        let (uid, gid) = (number(header.uid())?, number(header.gid())?);
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut content = Vec::new();
                entry
                    .read_to_end(&mut content)
                    .map_err(|e| broken(&name, e))?;
                Kind::File(content)
            }
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = str::from_utf8(&target).unwrap_or_default();
                if target.is_empty() || target.contains('\0') {
                    return Err(ArchiveError::Name(name));
                }
                Kind::Symlink(target.to_owned())
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let linked = hard_link(tree, &target, &place);
                let Some(linked) = linked else {
                    let target = String::from_utf8_lossy(&target).into_owned();
                    return Err(ArchiveError::HardLink { link: name, target });
                };
                put(tree, path, linked);
                continue;
            }
            EntryType::Block => return Err(unfit(name, "a block device")),
            EntryType::Char => return Err(unfit(name, "a character device")),
            EntryType::Fifo => return Err(unfit(name, "a named pipe")),
            _ => return Err(unfit(name, "of a kind that is not known")),
        };
        let entry = Entry {
            permissions: if matches!(kind, Kind::Symlink(_)) {
                0o777
            } else {
                mode & 0o7777
            },
            kind,
            uid,
            gid,
        };
        put(tree, path, entry);
    }
    Ok(())
}

/// The path of an entry without `./` and `/` before it.
fn name(bytes: &[u8]) -> Result<String, ArchiveError> {
    let unfit = || ArchiveError::Name(String::from_utf8_lossy(bytes).into_owned());
    let text = str::from_utf8(bytes).map_err(|_| unfit())?;
    let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    if parts.contains(&"..") || text.chars().any(char::is_control) {
        return Err(unfit());
    }
    Ok(parts.join("/"))
}

/// Where an entry goes: below folders alone.
fn settle(tree: &Tree, name: &str, path: &str) -> Result<String, ArchiveError> {
    let below = |parent: &str| ArchiveError::Below {
        name: name.to_owned(),
        parent: parent.to_owned(),
    };
    let path = lookup::place(tree, path).ok_or_else(|| below("links that go in circles"))?;
    for (at, _) in path.match_indices('/') {
        let above = tree.get(&path[..at]).map(|entry| &entry.kind);
        if above.is_some_and(|kind| *kind != Kind::Directory) {
            return Err(below(&path[..at]));
        }
    }
    Ok(path)
}

/// A later entry replaces an earlier one with all that is below it, but a folder keeps what is in it,
/// also where it is known by a link.
fn put(tree: &mut Tree, path: String, entry: Entry) {
    if entry.kind == Kind::Directory {
        let known = lookup::find(tree, &path).map(|(_, known)| &known.kind);
        let is_link = tree.get(&path).is_some_and(|at| at.kind != Kind::Directory);
        if is_link && known == Some(&Kind::Directory) {
            return;
        }
    } else {
        remove_below(tree, &path);
    }
    tree.insert(path, entry);
}

/// The file that a hard link of an archive is to be the same as.
fn hard_link(tree: &Tree, target: &[u8], place: &impl Fn(&str) -> Option<String>) -> Option<Entry> {
    let target = place(&name(target).ok()?)?;
    let target = lookup::place(tree, &target)?;
    let entry = tree.get(&target)?;
    (entry.kind != Kind::Directory).then(|| entry.clone())
}

/// Takes out all that is below this path, which is left.
pub fn remove_below(tree: &mut Tree, path: &str) {
    let prefix = match path {
        "" => String::new(),
        path => format!("{path}/"),
    };
    let below: Vec<String> = tree
        .range(prefix.clone()..)
        .take_while(|(other, _)| other.starts_with(&prefix))
        .map(|(other, _)| other.clone())
        .collect();
    for path in below {
        tree.remove(&path);
    }
}

fn unfit(name: String, what: &'static str) -> ArchiveError {
    ArchiveError::Kind { name, what }
}
