//! The entries of `[[tree]]`, `[[symlink]]` and `[[dir]]`: read from this machine once, and from then
//! on the same whatever its owners, dates and umask are.

use std::collections::BTreeMap;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};
use thiserror::Error;

use crate::cpio::{Entry, Kind, Tree};
use crate::hash::Sha256Hex;
use crate::layout::{check_place, is_mount_point};
use crate::spec::{Spec, TreeSpec};

/// Content that can't be part of an image.
#[derive(Debug, Error)]
pub enum ContentError {
    /// A source can't be read.
    #[error("[[tree]] `{tree}` of the image: can't read {}: {source}", .file.display())]
    Read {
        /// The tree's path in the guest.
        tree: String,
        /// The file on this machine.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A source is nothing that an image can have.
    #[error(
        "[[tree]] `{tree}` of the image: {} {problem}; leave it out with `exclude`", .file.display()
    )]
    Unfit {
        /// The tree's path in the guest.
        tree: String,
        /// The file on this machine.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// A pattern of `include` that takes nothing.
    #[error(
        "[[tree]] `{tree}` of the image: nothing below {} is like `{pattern}` of `include`",
        .folder.display()
    )]
    Nothing {
        /// The tree's path in the guest.
        tree: String,
        /// The folder on this machine.
        folder: PathBuf,
        /// The pattern.
        pattern: String,
    },
    /// Two of them want the same place.
    #[error("`/{path}` of the image comes from {first} and from {second}; leave it out of one")]
    Twice {
        /// Its path in the guest, without the leading `/`.
        path: String,
        /// What had it first.
        first: String,
        /// What has it too.
        second: String,
    },
    /// Something lies below what is no folder.
    #[error(
        "`/{path}` of the image ({origin}) lies below `/{parent}`, which is no folder ({other})"
    )]
    Below {
        /// Its path in the guest, without the leading `/`.
        path: String,
        /// What it comes from.
        origin: String,
        /// The one above it.
        parent: String,
        /// What that comes from.
        other: String,
    },
    /// A data disk would hide it.
    #[error(
        "`/{path}` of the image ({origin}) would be hidden by the disk that is mounted on `{mount}`"
    )]
    Hidden {
        /// Its path in the guest, without the leading `/`.
        path: String,
        /// What it comes from.
        origin: String,
        /// Where the disk is mounted.
        mount: String,
    },
}

/// What has been gathered, and where each of it comes from.
#[derive(Default)]
struct Gathered {
    tree: Tree,
    origins: BTreeMap<String, String>,
}

/// Reads all of it. Relative sources are relative to `base`, `guest.toml`'s folder. A `[[file]]`, a
/// `[[symlink]]` or a `[[dir]]` takes precedence over what a tree has in its place.
///
/// # Errors
/// [`ContentError`]
pub fn load(spec: &Spec, base: &Path) -> Result<Tree, ContentError> {
    let mut all = Gathered::default();
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
        all.tree.remove(file.path.trim_start_matches('/'));
    }
    Ok(all.tree)
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

impl Gathered {
    /// Adds what a tree has; two trees may share folders only.
    fn add(&mut self, path: String, origin: &str, entry: Entry) -> Result<(), ContentError> {
        if let Some(before) = self.tree.get(&path) {
            if before.kind == Kind::Directory && entry.kind == Kind::Directory {
                return Ok(());
            }
            return Err(self.twice(path, origin));
        }
        self.origins.insert(path.clone(), origin.to_owned());
        self.tree.insert(path, entry);
        Ok(())
    }

    /// Puts an entry of its own in the place of a tree's; a folder and what is none don't mix.
    fn replace(&mut self, path: &str, origin: &str, entry: Entry) -> Result<(), ContentError> {
        let path = path.trim_start_matches('/').to_owned();
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

    fn twice(&self, path: String, second: &str) -> ContentError {
        ContentError::Twice {
            first: self.origins.get(&path).cloned().unwrap_or_default(),
            path,
            second: second.to_owned(),
        }
    }

    /// Whether everything lies in folders, and where it can be seen.
    fn check(&self, spec: &Spec) -> Result<(), ContentError> {
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
            for disk in &spec.mounts {
                let mount = disk.path.as_str().trim_start_matches('/');
                let rest = path.strip_prefix(mount);
                let on_it = rest.is_some_and(str::is_empty) && !is_folder;
                if on_it || rest.is_some_and(|rest| rest.starts_with('/')) {
                    return Err(ContentError::Hidden {
                        path: path.clone(),
                        origin: origin.clone(),
                        mount: disk.path.to_string(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// One tree on its way into the image.
struct Walk<'a> {
    spec: &'a TreeSpec,
    folder: PathBuf,
    include: GlobSet,
    exclude: GlobSet,
    /// What of `include` has taken something.
    used: Vec<bool>,
}

impl<'a> Walk<'a> {
    fn new(spec: &'a TreeSpec, base: &Path) -> Result<Self, ContentError> {
        let folder = base.join(&spec.source);
        let set = |globs: &[Glob]| {
            let mut builder = GlobSetBuilder::new();
            for glob in globs {
                builder.add(glob.clone());
            }
            builder.build().map_err(|error| ContentError::Unfit {
                tree: spec.path.clone(),
                file: folder.clone(),
                problem: format!("has too many patterns: {error}"),
            })
        };
        Ok(Self {
            include: set(&spec.include)?,
            exclude: set(&spec.exclude)?,
            used: vec![false; spec.include.len()],
            spec,
            folder,
        })
    }

    fn take(mut self, all: &mut Gathered) -> Result<(), ContentError> {
        self.folder(all, "", self.spec.include.is_empty())?;
        match self.used.iter().position(|used| !used) {
            Some(unused) => Err(ContentError::Nothing {
                tree: self.spec.path.clone(),
                folder: self.folder,
                pattern: self.spec.include[unused].glob().to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Takes what the patterns leave of a folder, `below` the tree's; where `wanted`, a pattern has
    /// taken the folder itself. A folder that isn't goes in for what is in it.
    fn folder(
        &mut self,
        all: &mut Gathered,
        below: &str,
        wanted: bool,
    ) -> Result<bool, ContentError> {
        let here = match below {
            "" => self.folder.clone(),
            below => self.folder.join(below),
        };
        let mut names = Vec::new();
        let listing = fs::read_dir(&here).map_err(|e| self.unreadable(&here, e))?;
        for item in listing {
            let item = item.map_err(|e| self.unreadable(&here, e))?;
            names.push(item.file_name());
        }
        let mut taken = wanted;
        for name in names {
            let file = here.join(&name);
            let Some(name) = name.to_str() else {
                return Err(self.unfit(&file, "has a name that is no UTF-8"));
            };
            let below = match below {
                "" => name.to_owned(),
                below => format!("{below}/{name}"),
            };
            if self.exclude.is_match(&below) {
                continue;
            }
            let included = self.include.matches(&below);
            for &index in &included {
                self.used[index] = true;
            }
            let wanted = wanted || !included.is_empty();
            let metadata = fs::symlink_metadata(&file).map_err(|e| self.unreadable(&file, e))?;
            if metadata.is_dir() {
                taken |= self.folder(all, &below, wanted)?;
            } else if wanted {
                let entry = self.entry(&file, &metadata)?;
                self.add(all, &below, &file, entry)?;
                taken = true;
            }
        }
        if taken {
            self.add(all, below, &here, Entry::directory(0o755))?;
        }
        Ok(taken)
    }

    /// A file that its owner may execute is 0o755, another 0o644, as git keeps them.
    fn entry(&self, file: &Path, metadata: &Metadata) -> Result<Entry, ContentError> {
        if metadata.is_symlink() {
            let target = fs::read_link(file).map_err(|e| self.unreadable(file, e))?;
            let Some(target) = target.to_str() else {
                return Err(self.unfit(file, "is a link to a name that is no UTF-8"));
            };
            return Ok(Entry::symlink(target));
        }
        if !metadata.is_file() {
            return Err(self.unfit(file, what_it_is(metadata.file_type())));
        }
        let bytes = fs::read(file).map_err(|e| self.unreadable(file, e))?;
        let executable = metadata.permissions().mode() & 0o100 != 0;
        Ok(Entry::file(bytes, if executable { 0o755 } else { 0o644 }))
    }

    fn add(
        &self,
        all: &mut Gathered,
        below: &str,
        file: &Path,
        entry: Entry,
    ) -> Result<(), ContentError> {
        let path = format!("{}/{below}", self.spec.path);
        let path = format!("/{}", path.trim_matches('/'));
        if path == "/" {
            return Ok(());
        }
        if let Err(problem) = check_place(&path) {
            // An empty folder to mount on, as every unpacked root has them, is there already.
            if entry.kind == Kind::Directory && is_mount_point(&path) {
                return Ok(());
            }
            return Err(self.unfit(file, &format!("can't be `{path}`: {problem}")));
        }
        let entry = Entry {
            uid: self.spec.uid,
            gid: self.spec.gid,
            ..entry
        };
        let origin = format!("[[tree]] {}", self.folder.display());
        all.add(path[1..].to_owned(), &origin, entry)
    }

    fn unreadable(&self, file: &Path, source: io::Error) -> ContentError {
        ContentError::Read {
            tree: self.spec.path.clone(),
            file: file.to_owned(),
            source,
        }
    }

    fn unfit(&self, file: &Path, problem: &str) -> ContentError {
        ContentError::Unfit {
            tree: self.spec.path.clone(),
            file: file.to_owned(),
            problem: problem.to_owned(),
        }
    }
}

fn what_it_is(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    if kind.is_socket() {
        "is a socket"
    } else if kind.is_fifo() {
        "is a named pipe"
    } else {
        "is a device"
    }
}
