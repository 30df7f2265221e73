//! The checks of `[[tree]]`, `[[symlink]]` and `[[dir]]`.

use std::collections::BTreeSet;

use toml::Spanned;

use crate::layout::check_place;
use crate::text::TomlDocument;

use super::raw::{RawDir, RawSymlink, RawTree};
use super::value::{Checked, number, path, patterns, text};
use super::{ContentSpec, DirSpec, FileSpec, SymlinkSpec, TreeSpec};

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
        let path = text(path, key, doc, check_place)?;
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
                check_place(path)
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
