//! Images by what they are made of: each in a folder of its own, and a link to the one built last under
//! the name that people know.
//!
//! So no command finds that another one has changed the files that it boots from, whatever
//! description, compiler or variant that one builds. A folder that no link leads to any more goes with a
//! later build, unless a command still uses it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{self, Component, Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use noonmark_image::hash::Sha256Hex;

use crate::stamp::{STAMP, Stamp};
use crate::workspace::{DESCRIPTION, Workspace};

/// Where the folders are, below the workspace's state.
const FOLDERS: &str = "images";

/// The file that a command holds locked as long as it uses a folder.
const IN_USE: &str = ".in-use";

/// How much of a fingerprint is in a folder's name.
const DIGITS: usize = 16;

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Into a folder by its inputs, which this link leads to.
    Kept(PathBuf),
    /// Into this folder.
    Folder(PathBuf),
}

impl Place {
    /// The link to the image of this variant of a description: `image/VARIANT` for the workspace's own,
    /// `image/FILE/VARIANT` for another one.
    pub fn of(workspace: &Workspace, spec_file: &Path, variant: &str) -> Self {
        let mut link = workspace.state().join("image");
        // Not by what links in it lead to: in the emulated host there are none.
        let absolute = |path: &Path| path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (root, file) = (absolute(workspace.root()), absolute(spec_file));
        if file != root.join(DESCRIPTION) {
            link.push(name_of(&root, &file));
        }
        Self::Kept(link.join(variant.to_lowercase()))
    }

    /// The path that people know.
    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(path) | Self::Folder(path) => path,
        }
    }

    /// The folder for an image of this fingerprint. From now on, until this program ends, no other
    /// command removes it.
    ///
    /// # Errors
    ///
    /// It can't be made.
    pub(crate) fn folder(&self, workspace: &Workspace, fingerprint: Sha256Hex) -> Result<PathBuf> {
        let Self::Kept(link) = self else {
            return Ok(self.path().to_owned());
        };
        let variant = link.file_name().unwrap_or_default().to_string_lossy();
        let digits = &fingerprint.to_string()[..DIGITS];
        let folder = folders(workspace).join(format!("{variant}-{digits}"));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        hold(&folder)?;
        Ok(folder)
    }

    /// What tells it from other places of the same image, in whatever folder the workspace is.
    pub(crate) fn name(&self, workspace: &Workspace) -> PathBuf {
        let path = self.path();
        path.strip_prefix(workspace.state())
            .unwrap_or(path)
            .to_owned()
    }

    /// Has the link lead to the folder, and removes those that no link leads to. For whoever holds the
    /// workspace's lock.
    ///
    /// # Errors
    ///
    /// The link can't be made.
    pub(crate) fn publish(&self, workspace: &Workspace, folder: &Path) -> Result<()> {
        let Self::Kept(link) = self else {
            return Ok(());
        };
        point(link, folder)?;
        remove_stale(workspace);
        Ok(())
    }

    /// Where this image lies that somebody else has put there, by its name.
    pub(crate) fn find(&self, workspace: &Workspace) -> Option<PathBuf> {
        let Self::Kept(_) = self else {
            return Some(self.path().to_owned());
        };
        let name = self.name(workspace);
        let folders = fs::read_dir(folders(workspace)).ok()?;
        let mut paths = folders.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(|folder| Stamp::read(folder).is_some_and(|stamp| stamp.place == name))
    }
}

fn folders(workspace: &Workspace) -> PathBuf {
    workspace.state().join(FOLDERS)
}

/// A name for a description: that of its file, which has a dot in it as no variant's has; where it is
/// not in the top folder, with what tells it from others of that name.
fn name_of(root: &Path, file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if file.parent() == Some(root) && name.contains('.') {
        return name.into_owned();
    }
    let digits = Sha256Hex::of(file.as_os_str().as_encoded_bytes()).to_string();
    format!("{name}.{}", &digits[..8])
}

/// Keeps a folder until this program ends.
fn hold(folder: &Path) -> Result<()> {
    /// Those that are kept.
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let path = folder.join(IN_USE);
    let failed = || format!("cannot lock {}", path.display());
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(failed)?;
    file.lock_shared().with_context(failed)?;
    if let Ok(mut held) = HELD.lock() {
        held.push(file);
    }
    Ok(())
}

/// Makes the link lead to the folder, at once: whoever follows it finds the one or the other.
fn point(link: &Path, folder: &Path) -> Result<()> {
    let failed = || format!("cannot link {} to {}", link.display(), folder.display());
    let parent = link.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(failed)?;
    let target = relative(parent, folder);
    if fs::read_link(link).is_ok_and(|leads| leads == target) {
        return Ok(());
    }
    // An earlier version of this program had the images themselves there.
    if link.join(STAMP).is_file() && !link.is_symlink() {
        fs::remove_dir_all(link).with_context(failed)?;
    } else if link.exists() && !link.is_symlink() {
        bail!(
            "{} is no link and has no image of noonmark's in it; move it out of the way",
            link.display()
        );
    }
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    let new = parent.join(format!(".{name}.new"));
    if new.is_symlink() {
        fs::remove_file(&new).with_context(failed)?;
    }
    symlink(&target, &new).with_context(failed)?;
    fs::rename(&new, link).with_context(failed)
}

/// The way from one folder to another, so that the tree can be moved.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from
        .components()
        .zip(to.components())
        .take_while(|(one, other)| one == other)
        .count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// Removes the folders that their link doesn't lead to and that nobody uses. One that can't be removed is
/// tried again with the next build.
fn remove_stale(workspace: &Workspace) {
    let Ok(entries) = fs::read_dir(folders(workspace)) else {
        return;
    };
    for entry in entries.flatten() {
        let folder = entry.path();
        let is_current = Stamp::read(&folder).is_some_and(|stamp| {
            let leads = fs::canonicalize(workspace.state().join(stamp.place));
            leads.ok() == fs::canonicalize(&folder).ok()
        });
        let in_use = File::open(folder.join(IN_USE)).is_ok_and(|file| file.try_lock().is_err());
        if !is_current && !in_use {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build does, with a file of this text for an image.
    fn build(workspace: &Workspace, place: &Place, text: &str) -> PathBuf {
        let fingerprint = Sha256Hex::of(text.as_bytes());
        let folder = place.folder(workspace, fingerprint).unwrap();
        fs::write(folder.join("disk.img"), text).unwrap();
        let stamp = Stamp {
            fingerprint,
            place: place.name(workspace),
            artifacts: vec![("disk.img".to_owned(), text.len() as u64)],
            packages: Vec::new(),
        };
        fs::write(folder.join(STAMP), serde_json::to_vec(&stamp).unwrap()).unwrap();
        place.publish(workspace, &folder).unwrap();
        folder
    }

    #[test]
    fn a_build_leaves_what_another_command_boots_from_and_the_known_path_has_the_newest() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_test(root.path());
        let own = Place::of(&workspace, &root.path().join("guest.toml"), "base");
        let known = root.path().join("target/noonmark/image/base/disk.img");
        let first = build(&workspace, &own, "one");
        assert_eq!(fs::read_to_string(&known).unwrap(), "one");
        let second = build(&workspace, &own, "two");
        assert_ne!(first, second);
        // This program still uses it.
        assert_eq!(fs::read_to_string(first.join("disk.img")).unwrap(), "one");
        assert_eq!(fs::read_to_string(&known).unwrap(), "two");
        assert!(own.find(&workspace).is_some());
    }

    #[test]
    fn each_description_has_a_place_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_test(root.path());
        fs::create_dir(root.path().join("sub")).unwrap();
        let place = |file: &str| {
            let file = root.path().join(file);
            fs::write(&file, "").unwrap();
            Place::of(&workspace, &file, "Test")
        };
        let [own, other, sub] = ["guest.toml", "other.toml", "sub/guest.toml"].map(place);
        let image = root.path().join("target/noonmark/image");
        assert_eq!(own.path(), image.join("test"));
        assert_eq!(other.path(), image.join("other.toml/test"));
        assert!(sub.path().starts_with(&image) && sub.path() != own.path());
        for place in [&own, &other, &sub] {
            build(&workspace, place, "the same inputs");
        }
        for place in [&own, &other, &sub] {
            assert!(place.path().join("disk.img").is_file());
        }
    }

    #[test]
    fn what_no_link_leads_to_and_nobody_uses_is_removed_and_an_earlier_version_s_folder_too() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_test(root.path());
        let place = Place::of(&workspace, &root.path().join("guest.toml"), "base");
        fs::create_dir_all(place.path()).unwrap();
        fs::write(place.path().join(STAMP), "{}").unwrap();
        let (stale, used) = (
            folders(&workspace).join("base-0"),
            folders(&workspace).join("base-1"),
        );
        for folder in [&stale, &used] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(IN_USE), "").unwrap();
        }
        let lock = File::open(used.join(IN_USE)).unwrap();
        lock.lock_shared().unwrap();
        let folder = build(&workspace, &place, "one");
        assert!(folder.exists() && used.exists() && !stale.exists());
        assert!(place.path().is_symlink());
    }

    #[test]
    fn a_folder_that_is_somebody_s_own_is_left_and_named() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_test(root.path());
        let place = Place::of(&workspace, &root.path().join("guest.toml"), "base");
        fs::create_dir_all(place.path()).unwrap();
        fs::write(place.path().join("mine"), "").unwrap();
        let told = place
            .publish(&workspace, root.path())
            .unwrap_err()
            .to_string();
        assert!(told.contains(place.path().to_str().unwrap()), "{told}");
        assert!(place.path().join("mine").exists());
    }
}
