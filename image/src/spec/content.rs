//! `[[tree]]`, `[[symlink]]` and `[[dir]]`, and their checks.

use std::collections::BTreeSet;
use std::path::PathBuf;

use globset::{Glob, GlobBuilder};
use toml::Spanned;

use crate::text::TomlDocument;

use super::FileSpec;
use super::entries::guest_path;
use super::raw::{RawDir, RawSymlink, RawTree};
use super::value::{Checked, number, path, text};

/// What goes into the image beside single files, each kind in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentSpec {
    /// `[[tree]]`
    pub trees: Vec<TreeSpec>,
    /// `[[symlink]]`
    pub symlinks: Vec<SymlinkSpec>,
    /// `[[dir]]`
    pub dirs: Vec<DirSpec>,
}

/// `[[tree]]`: a folder of the host that goes into the image with all that is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeSpec {
    /// The folder's absolute path in the guest; `/` is the root itself.
    pub path: String,
    /// The folder; a relative path is relative to `guest.toml`'s folder.
    pub source: PathBuf,
    /// Patterns of what is taken, by its path below `source`; none take all.
    pub include: Vec<Glob>,
    /// Patterns of what is left out, whatever `include` says.
    pub exclude: Vec<Glob>,
    /// Owner of all of it.
    pub uid: u32,
    /// Group of all of it.
    pub gid: u32,
}

/// `[[symlink]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymlinkSpec {
    /// Its absolute path in the guest.
    pub path: String,
    /// What it leads to, as it is written into the link.
    pub target: String,
}

/// `[[dir]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirSpec {
    /// Its absolute path in the guest.
    pub path: String,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Checks them; no two of the links, folders and files may have one path.
pub(super) fn content(
    trees: Vec<RawTree>,
    symlinks: Vec<RawSymlink>,
    dirs: Vec<RawDir>,
    files: &[FileSpec],
    doc: &TomlDocument<'_>,
) -> Checked<ContentSpec> {
    let mut seen: BTreeSet<String> = files.iter().map(|file| file.path.clone()).collect();
    let mut own_path = |path: Spanned<String>, key: &str| {
        let span = path.span();
        let path = text(path, key, doc, guest_path)?;
        if seen.insert(path.clone()) {
            return Ok(path);
        }
        Err(doc.error(Some(span), key, format!("`{path}` is there twice")))
    };
    let owner = |value, key: &str| -> Checked<u32> {
        Ok(number(value, key, 0..=u32::MAX - 1, doc)?.unwrap_or(0))
    };
    let mut spec = ContentSpec::default();
    for raw in symlinks {
        spec.symlinks.push(SymlinkSpec {
            path: own_path(raw.path, "symlink.path")?,
            target: text(raw.target, "symlink.target", doc, link_target)?,
        });
    }
    for raw in dirs {
        spec.dirs.push(DirSpec {
            path: own_path(raw.path, "dir.path")?,
            mode: number(raw.mode, "dir.mode", 0..=0o7777, doc)?.unwrap_or(0o755),
            uid: owner(raw.uid, "dir.uid")?,
            gid: owner(raw.gid, "dir.gid")?,
        });
    }
    for raw in trees {
        let place = |path: &str| {
            if path == "/" {
                Ok(())
            } else {
                guest_path(path)
            }
        };
        spec.trees.push(TreeSpec {
            path: text(raw.path, "tree.path", doc, place)?,
            source: path(raw.source, "tree.source", doc)?,
            include: patterns(raw.include, "tree.include", doc)?,
            exclude: patterns(raw.exclude, "tree.exclude", doc)?,
            uid: owner(raw.uid, "tree.uid")?,
            gid: owner(raw.gid, "tree.gid")?,
        });
    }
    Ok(spec)
}

/// What symlink(2) takes, and nothing that a listing couldn't show.
fn link_target(target: &str) -> Result<(), &'static str> {
    let good = (1..4096).contains(&target.len()) && !target.chars().any(char::is_control);
    good.then_some(())
        .ok_or("expected a path of 1 to 4095 bytes without control characters")
}

/// `*` and `?` stand for no `/`; `**` does.
fn patterns(raw: Vec<Spanned<String>>, key: &str, doc: &TomlDocument<'_>) -> Checked<Vec<Glob>> {
    raw.into_iter()
        .map(|pattern| {
            let bad = |problem: String| Err(doc.error(Some(pattern.span()), key, problem));
            let text = pattern.get_ref();
            if text.is_empty() || text.starts_with('/') || text.ends_with('/') {
                return bad(format!(
                    "`{}`: expected a pattern for paths below `source`, without `/` at its ends",
                    text.escape_debug()
                ));
            }
            match GlobBuilder::new(text).literal_separator(true).build() {
                Ok(glob) => Ok(glob),
                Err(error) => bad(format!(
                    "`{}`: expected a pattern of `*`, `?`, `**`, `[a-z]` and `{{a,b}}`: {}",
                    text.escape_debug(),
                    error.kind()
                )),
            }
        })
        .collect()
}
