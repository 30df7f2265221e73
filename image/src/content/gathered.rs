//! What goes into an image as it comes together, piece by piece.

use std::collections::BTreeMap;

use crate::cpio::{Entry, Kind, Tree};
use crate::layout::MOUNT_POINTS;
use crate::lookup;
use crate::spec::Spec;

use super::error::ContentError;

/// What has been gathered, and where each of it comes from.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// It.
    pub(super) tree: Tree,
    origins: BTreeMap<String, String>,
}

impl Gathered {
    /// Adds what a tree has; two trees may share folders only.
    pub(super) fn add(
        &mut self,
        path: &str,
        origin: &str,
        entry: Entry,
    ) -> Result<(), ContentError> {
        let path = self.place(path);
        if let Some(before) = self.tree.get(&path) {
            // What is a link to a folder here may be that folder elsewhere.
            let known = lookup::find(&self.tree, &path).map_or(before, |(_, known)| known);
            if known.kind == Kind::Directory && entry.kind == Kind::Directory {
                return Ok(());
            }
            return Err(self.twice(path, origin));
        }
        self.origins.insert(path.clone(), origin.to_owned());
        self.tree.insert(path, entry);
        Ok(())
    }

    /// Adds what others may bring too, as long as it is the same.
    pub(super) fn share(
        &mut self,
        path: &str,
        origin: &str,
        entry: Entry,
    ) -> Result<(), ContentError> {
        let same = |known: &Entry| known.kind == entry.kind;
        let led_to = lookup::find(&self.tree, path).map(|(_, known)| known);
        let there = self.tree.get(&self.place(path));
        if led_to.is_some_and(same) || there.is_some_and(same) {
            return Ok(());
        }
        self.add(path, origin, entry)
    }

    /// Puts an entry of its own in the place of a tree's; a folder and what is none don't mix.
    pub(super) fn replace(
        &mut self,
        path: &str,
        origin: &str,
        entry: Entry,
    ) -> Result<(), ContentError> {
        let path = self.place(path);
        let is_folder = |entry: &Entry| entry.kind == Kind::Directory;
        if let Some(before) = self.tree.get(&path)
            && is_folder(before) != is_folder(&entry)
        {
            return Err(self.twice(path, origin));
        }
        self.origins.insert(path.clone(), origin.to_owned());
        self.tree.insert(path, entry);
        Ok(())
    }

    /// Takes something out again that only held its place.
    pub(super) fn remove(&mut self, path: &str) {
        let path = self.place(path);
        self.tree.remove(&path);
    }

    /// Where a path leads, as far as its folders are links.
    fn place(&self, path: &str) -> String {
        let placed = lookup::place(&self.tree, path);
        placed.unwrap_or_else(|| path.trim_start_matches('/').to_owned())
    }

    fn twice(&self, path: String, second: &str) -> ContentError {
        ContentError::Twice {
            first: self.origins.get(&path).cloned().unwrap_or_default(),
            path,
            second: second.to_owned(),
        }
    }

    /// Whether everything lies in folders, and where it can be seen.
    pub(super) fn check(&self, spec: &Spec) -> Result<(), ContentError> {
        for (path, origin) in &self.origins {
            for (at, _) in path.match_indices('/') {
                let parent = &path[..at];
                let above = self.tree.get(parent).map(|entry| &entry.kind);
                if above.is_some_and(|kind| *kind != Kind::Directory) {
                    return Err(ContentError::Below {
                        path: path.clone(),
                        origin: origin.clone(),
                        parent: parent.to_owned(),
                        other: self.origins.get(parent).cloned().unwrap_or_default(),
                    });
                }
            }
            let is_folder = self.tree[path].kind == Kind::Directory;
            let disks = spec.mounts.iter().map(|disk| disk.path.as_str());
            let disks = disks.map(|disk| (disk, "the disk that is mounted"));
            let own = MOUNT_POINTS
                .iter()
                .map(|(folder, _)| (*folder, "what PID 1 mounts"));
            for (mount, what) in disks.chain(own) {
                let rest = path.strip_prefix(mount.trim_start_matches('/'));
                let on_it = rest.is_some_and(str::is_empty) && !is_folder;
                if on_it || rest.is_some_and(|rest| rest.starts_with('/')) {
                    return Err(ContentError::Hidden {
                        path: path.clone(),
                        origin: origin.clone(),
                        mount: format!("{what} on `{mount}`"),
                    });
                }
            }
        }
        Ok(())
    }
}
