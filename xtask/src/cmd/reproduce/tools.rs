//! Where a build finds the compiler and the crates' sources.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use noonmark_builder::exec;
use noonmark_builder::workspace::Workspace;
use xshell::{Shell, cmd};

/// What another place for the toolchain is called.
pub const SYSROOT: &str = "toolchain";

/// What another place for cargo's home is called.
pub const CARGO_HOME: &str = "cargo-home";

/// Cargo's settings in its home; its credentials stay where they are.
const SETTINGS: [&str; 2] = ["config.toml", "config"];

/// The compiler and the crates' sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// The toolchain's own folder, without rustup in between.
    pub sysroot: PathBuf,
    /// Cargo's home.
    pub cargo_home: PathBuf,
}

impl Tools {
    /// Those that this program was built with.
    ///
    /// # Errors
    ///
    /// rustc can't be asked, or there is no home.
    pub fn own(workspace: &Workspace) -> Result<Self> {
        let shell = Shell::new().context("cannot tell the current folder")?;
        shell.change_dir(workspace.root());
        let sysroot = exec::read(cmd!(shell, "rustc --print sysroot"))?;
        let cargo_home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
            .context("neither CARGO_HOME nor HOME says where cargo keeps the crates' sources")?;
        Ok(Self {
            sysroot: PathBuf::from(sysroot.trim()),
            cargo_home,
        })
    }

    /// The same tools by a cargo home in `folder`: what cargo notes there of a build, such as the
    /// date on which each crate was last used, is not to be believed where the date is not.
    ///
    /// # Errors
    ///
    /// The folder can't be written.
    pub fn with_another_home(&self, folder: &Path) -> Result<Self> {
        let other = Self {
            sysroot: self.sysroot.clone(),
            cargo_home: folder.join(CARGO_HOME),
        };
        self.copy_settings(&other)?;
        let (own, link) = (self.registry(), other.registry());
        unix::fs::symlink(&own, &link)
            .with_context(|| format!("cannot link {} to {}", link.display(), own.display()))?;
        Ok(other)
    }

    /// Makes the other's cargo home and copies cargo's settings to it.
    ///
    /// # Errors
    ///
    /// One can't be read, or the other home can't be written.
    pub fn copy_settings(&self, other: &Self) -> Result<()> {
        let home = &other.cargo_home;
        fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
        for name in SETTINGS {
            let settings = self.cargo_home.join(name);
            if settings.is_file() {
                fs::copy(&settings, home.join(name))
                    .with_context(|| format!("cannot copy {}", settings.display()))?;
            }
        }
        Ok(())
    }

    /// Where the crates' sources are.
    pub fn registry(&self) -> PathBuf {
        self.cargo_home.join("registry")
    }

    /// One of the toolchain's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.sysroot.join("bin").join(name)
    }

    /// A `PATH` on which the toolchain's programs come first.
    ///
    /// # Errors
    ///
    /// A folder's name can't be in a `PATH`.
    pub fn search_path(&self) -> Result<OsString> {
        let others = env::var_os("PATH").unwrap_or_default();
        let folders = [self.sysroot.join("bin")];
        env::join_paths(folders.into_iter().chain(env::split_paths(&others)))
            .context("a folder's name has a colon in it, so it can't be in PATH")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_home_has_the_crates_and_the_settings_but_no_credentials() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tools = Tools {
            sysroot: PathBuf::from("/rust"),
            cargo_home: own.path().to_path_buf(),
        };
        for name in ["config.toml", "credentials.toml"] {
            fs::write(own.path().join(name), name).unwrap();
        }
        fs::create_dir(tools.registry()).unwrap();
        fs::write(tools.registry().join("crate"), "source").unwrap();
        let other = tools.with_another_home(other.path()).unwrap();
        let has = |name: &str| other.cargo_home.join(name).exists();
        assert!(has("config.toml") && has("registry/crate"));
        assert!(!has("credentials.toml"));
    }
}
