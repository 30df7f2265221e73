//! The guest for commands: its image, and what a command of this machine's needs there beside it, which is
//! an archive in front of the image's own (Documentation/driver-api/early-userspace/buffer-format.rst), so
//! that no command needs an image of its own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use noonmark_image::cpio::{self, Entry, Kind, Tree};
use noonmark_image::layout::MOUNT_POINTS;
use noonmark_image::program;
use noonmark_image::spec::{Budget, Spec};
use noonmark_qemu::find_in_path;

use crate::installed::InstalledFiles;
use crate::kernel;

/// The file system of shared folders, and how it gets there.
const SHARE_MODULES: [&str; 2] = ["9p", "9pnet_virtio"];

/// So many scripts may be each other's interpreters (fs/exec.c, `exec_binprm`).
const SCRIPTS_MAX: usize = 4;

/// The longest first line of a script that the kernel reads (include/uapi/linux/binfmts.h,
/// `BINPRM_BUF_SIZE`).
const SCRIPT_LINE_MAX: u64 = 256;

/// Where files go whose own place in the guest is hidden by what PID 1 mounts.
const HIDDEN: &str = "/host";

/// Makes of the image's description that of a guest for commands, with shared folders or without.
pub fn adapt(spec: &mut Spec, shares: bool) {
    // The budget is for the image that is shipped.
    spec.budget = Budget::default();
    if shares {
        spec.modules.load.extend(SHARE_MODULES.map(str::to_owned));
        kernel::of_all_machines(spec);
    }
}

/// What a guest has beside its image, for one run.
#[derive(Debug, Default)]
pub struct Supplement {
    files: InstalledFiles,
    folders: BTreeSet<String>,
}

impl Supplement {
    /// Adds a folder, for something to be mounted there.
    pub fn add_folder(&mut self, path: &str) {
        self.folders.insert(path.to_owned());
    }

    /// Adds a program or script of this machine with all that it needs to be started; gives its path in
    /// the guest.
    ///
    /// # Errors
    /// It can't be read, or something that it needs is missing here.
    pub fn add_program(&mut self, path: &Path) -> Result<String> {
        self.add(path, true, SCRIPTS_MAX)?;
        Ok(place(path))
    }

    /// Adds only what it needs: it is in the guest already, in a shared folder.
    ///
    /// # Errors
    /// As [`Supplement::add_program`].
    pub fn add_needs(&mut self, path: &Path) -> Result<()> {
        self.add(path, false, SCRIPTS_MAX)
    }

    fn add(&mut self, path: &Path, itself: bool, scripts: usize) -> Result<()> {
        let Some(interpreter) = interpreter(path)? else {
            return match itself {
                true => self.files.add_program(path),
                false => self.files.add_needs(path),
            };
        };
        if scripts == 0 {
            bail!("{}: too many scripts run each other", path.display());
        }
        if itself {
            self.files.add_file(path, 0o755)?;
        }
        for program in interpreter {
            self.add(&program, true, scripts - 1)
                .with_context(|| format!("what runs {}", path.display()))?;
        }
        Ok(())
    }

    /// The archive; empty where nothing was added.
    ///
    /// # Errors
    /// Something can't be in one.
    pub fn archive(self) -> Result<Vec<u8>> {
        let mut tree = Tree::new();
        let key = |path: &str| path.trim_start_matches('/').to_owned();
        for folder in self.folders {
            tree.insert(key(&folder), Entry::directory(0o755));
        }
        for file in self.files.into_files() {
            let entry = Entry {
                kind: Kind::File(file.bytes),
                permissions: file.spec.mode,
                uid: 0,
                gid: 0,
            };
            tree.insert(key(&place(Path::new(&file.spec.path))), entry);
        }
        match tree.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(cpio::write(&tree, 0)?),
        }
    }
}

/// Writes an image's initrd with the archive in front of it.
///
/// # Errors
/// One can't be read, or the other written.
pub fn write_initrd(archive: &[u8], initrd: &Path, to: &Path) -> Result<()> {
    let image = fs::read(initrd).with_context(|| format!("cannot read {}", initrd.display()))?;
    File::create(to)
        .and_then(|mut file| {
            file.write_all(archive)?;
            file.write_all(&image)
        })
        .with_context(|| format!("cannot write {}", to.display()))
}

/// Where a file of this machine goes in the guest: to the same path, where that can be seen.
fn place(path: &Path) -> String {
    let hidden = MOUNT_POINTS
        .iter()
        .any(|(point, _)| path.starts_with(point));
    let path = path.display();
    match hidden {
        true => format!("{HIDDEN}{path}"),
        false => path.to_string(),
    }
}

/// What runs a script: the program of its first line, and the one that `env` is to find. None for what is
/// no script.
fn interpreter(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SCRIPT_LINE_MAX).read_to_end(&mut start))
        .with_context(|| format!("cannot read {}", path.display()))?;
    let Some(line) = start.strip_prefix(b"#!") else {
        if program::interpreter(&fs::read(path)?).is_err() {
            bail!(
                "{}: this is neither an ELF program nor a script that begins with #!",
                path.display()
            );
        }
        return Ok(None);
    };
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let first = words
        .next()
        .with_context(|| format!("{}: its first line names no program", path.display()))?;
    let mut programs = vec![PathBuf::from(first)];
    if first.ends_with("/env")
        && let Some(name) = words.find(|word| !word.starts_with('-') && !word.contains('='))
    {
        let found = find_in_path(name)
            .with_context(|| format!("{}: there is no {name} in PATH", path.display()))?;
        programs.push(found);
    }
    Ok(Some(programs))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn paths(supplement: Supplement) -> Vec<String> {
        let archive = supplement.archive().unwrap();
        cpio::read(&archive).unwrap().into_keys().collect()
    }

    #[test]
    fn a_program_comes_with_its_libraries_and_a_share_s_program_without_itself() {
        let own = env::current_exe().unwrap();
        let mut supplement = Supplement::default();
        let path = supplement.add_program(&own).unwrap();
        let with = paths(supplement);
        assert!(
            with.contains(&path.trim_start_matches('/').to_owned()),
            "{with:?}"
        );
        let mut supplement = Supplement::default();
        supplement.add_needs(&own).unwrap();
        supplement.add_folder("/src/here");
        let without = paths(supplement);
        assert!(
            !without.contains(&path.trim_start_matches('/').to_owned()),
            "{without:?}"
        );
        assert!(
            without.iter().any(|path| path.contains("ld-linux")),
            "{without:?}"
        );
        assert!(without.contains(&"src/here".to_owned()), "{without:?}");
        assert_eq!(Supplement::default().archive().unwrap(), b"");
    }

    #[test]
    fn a_script_comes_with_what_runs_it_and_is_put_where_it_can_be_seen() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#!/usr/bin/env sh\nexit 3\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut supplement = Supplement::default();
        let path = supplement.add_program(&script).unwrap();
        assert_eq!(path, format!("/host{}", script.display()));
        let paths = paths(supplement);
        for end in ["/script", "bin/env", "/sh", "libc.so.6"] {
            assert!(
                paths.iter().any(|path| path.ends_with(end)),
                "no {end} in {paths:?}"
            );
        }
        fs::write(&script, "no program").unwrap();
        let error = Supplement::default().add_program(&script).unwrap_err();
        assert!(format!("{error:#}").contains("script"), "{error:#}");
    }
}
