//! Clean copies of the checkout, in a folder that vanishes with this program.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use noonmark_builder::exec;
use noonmark_builder::workspace::Workspace;
use noonmark_qemu::signals::{self, CleanupGuard};
use tempfile::TempDir;
use xshell::{Shell, cmd};

/// A temporary folder that is removed on drop and on Ctrl-C.
#[derive(Debug)]
pub struct Scratch {
    // Declared first, so that it is dropped first: then a signal can't remove the folder as well.
    _guard: CleanupGuard,
    folder: TempDir,
}

impl Scratch {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// The system's folder for temporary files can't be written.
    pub fn new() -> Result<Self> {
        let (folder, guard) = signals::register_with(|| {
            let folder = tempfile::Builder::new()
                .prefix("noonmark-reproduce-")
                .tempdir()
                .context("cannot make a temporary folder")?;
            let path = folder.path().to_owned();
            let remove = move || {
                // The process ends right after this, so an error could not be reported.
                let _ = fs::remove_dir_all(path);
            };
            Ok::<_, anyhow::Error>((folder, remove))
        })?;
        Ok(Self {
            _guard: guard,
            folder,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves it where it is, for a look.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// Copies what belongs to the checkout, committed or not, and the packages that are in the cache
/// already: both builds are to start from the same inputs. The copies are of `date`; none is now.
///
/// # Errors
///
/// Something can't be read or written.
pub fn copy(workspace: &Workspace, to: &Path, date: Option<SystemTime>) -> Result<()> {
    for file in files(workspace)? {
        copy_file(&workspace.root().join(&file), &to.join(&file), date)?;
    }
    let packages = workspace.cache().join("packages");
    for entry in
        fs::read_dir(&packages).with_context(|| format!("cannot list {}", packages.display()))?
    {
        let entry = entry.with_context(|| format!("cannot list {}", packages.display()))?;
        let copied = to
            .join("target/noonmark/cache/packages")
            .join(entry.file_name());
        copy_file(&entry.path(), &copied, date)?;
    }
    Ok(())
}

/// The checkout's files, relative to its root: those that git knows or would take; without git all
/// but what is built.
fn files(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let shell = Shell::new().context("cannot tell the current folder")?;
    shell.change_dir(workspace.root());
    let listed = exec::read(cmd!(shell, "git ls-files -z -co --exclude-standard"));
    if let Ok(list) = listed {
        let files = list.split('\0').filter(|name| !name.is_empty());
        // Git also lists files that are deleted in the working tree only.
        return Ok(files
            .map(PathBuf::from)
            .filter(|file| workspace.root().join(file).is_file())
            .collect());
    }
    let mut found = Vec::new();
    walk(workspace.root(), Path::new(""), &mut found)?;
    Ok(found)
}

fn walk(root: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(below);
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let name = below.join(entry.file_name());
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot read {}", entry.path().display()))?;
        if kind.is_dir() {
            let built = below == Path::new("")
                && (name == Path::new("target") || name == Path::new(".git"));
            if !built {
                walk(root, &name, found)?;
            }
        } else if kind.is_file() {
            found.push(name);
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, date: Option<SystemTime>) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    if let Some(date) = date {
        File::options()
            .write(true)
            .open(to)
            .and_then(|file| file.set_modified(date))
            .with_context(|| format!("cannot date {}", to.display()))?;
    }
    Ok(())
}
