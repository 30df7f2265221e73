//! A program that is installed on this machine as files of an image, with what it loads: at the same
//! paths, so that whatever it finds here it finds there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use noonmark_image::program;
use noonmark_image::spec::{FileSpec, LoadedFile};

/// What the dynamic linker of glibc looks up library paths in (ld.so(8)).
const LINKER_CACHE: &str = "/etc/ld.so.cache";

/// Files by their paths in the image, which are those on this machine.
#[derive(Debug, Default)]
pub(crate) struct InstalledFiles(BTreeMap<PathBuf, LoadedFile>);

impl InstalledFiles {
    /// Adds a program, its dynamic linker, and the libraries that this linker says it would load.
    ///
    /// # Errors
    ///
    /// It can't be read, is no ELF program, or a library of it is missing.
    pub fn add_program(&mut self, path: &Path) -> Result<()> {
        let bytes = read(path)?;
        // What a debugger needs is most of a program that was built for development.
        let loaded = program::without_unloaded(bytes.clone());
        self.insert(path, loaded, 0o755);
        self.add_needs_of(path, &bytes)
    }

    /// Adds what [`InstalledFiles::add_program`] adds beside the program itself.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn add_needs(&mut self, path: &Path) -> Result<()> {
        self.add_needs_of(path, &read(path)?)
    }

    fn add_needs_of(&mut self, path: &Path, program: &[u8]) -> Result<()> {
        let interpreter = program::interpreter(program)
            .with_context(|| format!("{}: this is no ELF program", path.display()))?;
        let Some(interpreter) = interpreter else {
            return Ok(());
        };
        for library in libraries(Path::new(&interpreter), path)? {
            self.add_file(&library, 0o755)?;
        }
        self.add_file(Path::new(&interpreter), 0o755)?;
        if Path::new(LINKER_CACHE).exists() {
            self.add_file(Path::new(LINKER_CACHE), 0o644)?;
        }
        Ok(())
    }

    /// Adds a file as it is.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn add_file(&mut self, path: &Path, mode: u32) -> Result<()> {
        if !self.0.contains_key(path) {
            self.insert(path, read(path)?, mode);
        }
        Ok(())
    }

    /// Adds files of packages, unless this machine's own are there already.
    pub fn add_loaded(&mut self, files: impl IntoIterator<Item = LoadedFile>) {
        for file in files {
            self.0.entry(PathBuf::from(&file.spec.path)).or_insert(file);
        }
    }

    fn insert(&mut self, path: &Path, bytes: Vec<u8>, mode: u32) {
        let file = LoadedFile {
            spec: FileSpec {
                path: path.to_string_lossy().into_owned(),
                source: path.to_owned(),
                mode,
                uid: 0,
                gid: 0,
            },
            bytes,
        };
        self.0.insert(path.to_owned(), file);
    }

    /// All of them, sorted by path.
    pub fn into_files(self) -> Vec<LoadedFile> {
        self.0.into_values().collect()
    }
}

/// The libraries that the dynamic linker would load, by its own word: `--list` resolves them as it
/// would to run the program, and runs nothing of it (ld.so(8)).
fn libraries(interpreter: &Path, program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new(interpreter)
        .arg("--list")
        .arg(program)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", interpreter.display()))?;
    let listing = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{} --list {}: {}: {}",
            interpreter.display(),
            program.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    parse_listing(&listing).with_context(|| format!("{}", program.display()))
}

/// Reads lines such as `libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f…)`. One without an
/// arrow is the linker itself, or the kernel's own vDSO.
fn parse_listing(listing: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in listing.lines() {
        let Some((name, place)) = line.split_once(" => ") else {
            continue;
        };
        let place = place.split(" (0x").next().unwrap_or(place).trim();
        if !place.starts_with('/') {
            bail!("its library {} is {place}", name.trim());
        }
        found.push(PathBuf::from(OsString::from(place)));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn the_linker_s_listing_gives_paths_and_a_missing_library_is_an_error() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                       \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f61)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f62)\n";
        let found = parse_listing(listing).unwrap();
        assert_eq!(found, [PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6")]);
        let error = parse_listing("\tlibx.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libx.so.1"), "{error}");
    }

    #[test]
    fn a_program_comes_with_its_linker_and_runs_without_what_is_not_loaded() {
        let own = env::current_exe().unwrap();
        let mut files = InstalledFiles::default();
        files.add_program(&own).unwrap();
        let files = files.into_files();
        let names: Vec<&str> = files.iter().map(|file| &*file.spec.path).collect();
        assert!(
            names.iter().any(|name| name.contains("libc.so")),
            "{names:?}"
        );
        assert!(
            names.iter().any(|name| name.contains("ld-linux")),
            "{names:?}"
        );
        let copy = tempfile::tempdir().unwrap();
        let program = copy.path().join("program");
        let file = files.iter().find(|file| file.spec.source == own).unwrap();
        assert!((file.bytes.len() as u64) < fs::metadata(&own).unwrap().len());
        fs::write(&program, &file.bytes).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, executable).unwrap();
        let output = Command::new(&program).arg("--list").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn a_script_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("qemu");
        fs::write(&script, "#!/bin/sh\nexec qemu\n").unwrap();
        let error = InstalledFiles::default().add_program(&script).unwrap_err();
        assert!(format!("{error:#}").contains("no ELF program"), "{error:#}");
    }
}
