//! The QEMU program: finding it, and asking it what it can do.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program that is looked for where none is named.
pub const DEFAULT_PROGRAM: &str = "qemu-system-x86_64";

/// A QEMU that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    path: PathBuf,
    version: String,
}

/// Why there is no usable QEMU.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// No such program.
    #[error(
        "there is no QEMU at `{}`; install one with `cargo xtask setup`, or name one with --qemu \
         PATH or NOONMARK_QEMU", path.display()
    )]
    NotFound {
        /// What was looked for.
        path: PathBuf,
    },
    /// It is there but did not run.
    #[error("cannot run QEMU `{}`: {source}", path.display())]
    CannotRun {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ran and failed, or is no QEMU.
    #[error(
        "`{} {argument}` did not answer as QEMU does: {answer}; name a QEMU with --qemu PATH or \
         NOONMARK_QEMU", path.display()
    )]
    NotQemu {
        /// The program.
        path: PathBuf,
        /// What it was asked.
        argument: &'static str,
        /// What came back.
        answer: String,
    },
}

impl Qemu {
    /// The QEMU at `explicit`, or the one that `PATH` offers.
    ///
    /// # Errors
    /// Where it is not there, does not run, or is something else.
    pub fn find(explicit: Option<&Path>) -> Result<Self, QemuError> {
        let name = explicit.unwrap_or(Path::new(DEFAULT_PROGRAM));
        let path = resolve(name, std::env::var_os("PATH").as_deref()).ok_or_else(|| {
            QemuError::NotFound {
                path: name.to_owned(),
            }
        })?;
        let answer = ask(&path, "--version", &["--version"])?;
        let version = answer
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("QEMU emulator version "))
            .ok_or_else(|| QemuError::NotQemu {
                path: path.clone(),
                argument: "--version",
                answer: answer.lines().next().unwrap_or("nothing").to_owned(),
            })?
            .to_owned();
        Ok(Self { path, version })
    }

    /// The program's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version in its own words: `10.0.2 (Debian …)`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether it was built with this accelerator.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn has_accelerator(&self, name: &str) -> Result<bool, QemuError> {
        let answer = ask(&self.path, "-accel help", &["-accel", "help"])?;
        Ok(answer.lines().any(|line| line.trim() == name))
    }

    /// Whether it has a device of this name.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn has_device(&self, name: &str) -> Result<bool, QemuError> {
        let answer = ask(&self.path, "-device help", &["-device", "help"])?;
        Ok(answer.contains(&format!("name \"{name}\"")))
    }
}

/// The path of the program that a shell would run for `name`; none where there is none.
#[must_use]
pub fn find_in_path(name: &str) -> Option<PathBuf> {
    resolve(Path::new(name), std::env::var_os("PATH").as_deref())
}

/// The path that a shell would run for `name`.
fn resolve(name: &Path, search: Option<&OsStr>) -> Option<PathBuf> {
    if name.components().count() > 1 || name.is_absolute() {
        return name.is_file().then(|| name.to_owned());
    }
    std::env::split_paths(search?)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn ask(path: &Path, argument: &'static str, words: &[&str]) -> Result<String, QemuError> {
    let output = Command::new(path)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| QemuError::CannotRun {
            path: path.to_owned(),
            source,
        })?;
    let Output { status, stdout, .. } = output;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(QemuError::NotQemu {
        path: path.to_owned(),
        argument,
        answer: format!("{status}: {}", complaint.trim()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_qemu_is_named_with_both_ways_out() {
        let error = Qemu::find(Some(Path::new("/nonexistent/qemu"))).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nonexistent/qemu"));
        assert!(text.contains("cargo xtask setup") && text.contains("NOONMARK_QEMU"));
    }

    #[test]
    fn a_program_that_is_no_qemu_is_not_taken_for_one() {
        let error = Qemu::find(Some(Path::new("/bin/true"))).unwrap_err();
        assert!(matches!(error, QemuError::NotQemu { .. }), "{error}");
        let error = Qemu::find(Some(Path::new("/bin/false"))).unwrap_err();
        assert!(matches!(error, QemuError::NotQemu { .. }), "{error}");
    }

    #[test]
    fn a_bare_name_is_looked_up_and_a_path_is_not() {
        let found = resolve(Path::new("sh"), Some(OsStr::new("/nonexistent:/bin")));
        assert_eq!(found, Some(PathBuf::from("/bin/sh")));
        assert_eq!(resolve(Path::new("./sh"), Some(OsStr::new("/bin"))), None);
        assert_eq!(resolve(Path::new("sh"), None), None);
    }
}
