//! `[[tree]]`: a folder of this machine, the same whatever its owners, dates and umask are.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::cpio::{Entry, Kind};
use crate::layout::{check_place, is_mount_point};
use crate::spec::TreeSpec;

use super::error::ContentError;
use super::gathered::Gathered;
use super::patterns::Patterns;

/// One tree on its way into the image.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    spec: &'a TreeSpec,
    folder: PathBuf,
    patterns: Patterns<'a>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(spec: &'a TreeSpec, base: &Path) -> Result<Self, ContentError> {
        let folder = base.join(&spec.source);
        let patterns = Patterns::new(&spec.include, &spec.exclude);
        let patterns = patterns.map_err(|error| ContentError::Unfit {
            tree: spec.path.clone(),
            file: folder.clone(),
            problem: format!("has too many patterns: {error}"),
        })?;
        Ok(Self {
            spec,
            folder,
            patterns,
        })
    }

    pub(super) fn take(mut self, all: &mut Gathered) -> Result<(), ContentError> {
        self.folder(all, "", self.patterns.take_all())?;
        match self.patterns.unused() {
            Some(pattern) => Err(ContentError::Nothing {
                tree: self.spec.path.clone(),
                pattern: pattern.to_owned(),
                folder: self.folder,
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
            if self.patterns.leave_out(&below) {
                continue;
            }
            let wanted = self.patterns.take(&below) || wanted;
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
        all.add(&path, &origin, entry)
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
