//! Where things are: the checkout, and the folder under `target/` that holds all that is made.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The checkout that this program works on.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    state: PathBuf,
}

impl Workspace {
    /// The workspace that cargo runs this program from; run by hand, the one it was compiled in.
    ///
    /// # Errors
    ///
    /// There is no workspace at that place any more.
    pub fn find() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .ancestors()
            .find(|folder| folder.join("Cargo.lock").is_file())
            .with_context(|| {
                format!(
                    "{} is in no checkout of noonmark: no folder above it has a Cargo.lock; run \
                     `cargo xtask` inside the checkout",
                    package.display()
                )
            })?;
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
            || root.join("target"),
            // Like cargo: a relative path is relative to the current folder.
            |dir| env::current_dir().unwrap_or_default().join(dir),
        );
        Ok(Self {
            root: root.to_path_buf(),
            state: target.join("noonmark"),
        })
    }

    /// A checkout in a folder of a test.
    #[cfg(test)]
    pub fn of_test(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            state: root.join("target/noonmark"),
        }
    }

    /// The checkout's top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where everything that is downloaded is kept. It may be deleted at any time between runs.
    pub fn cache(&self) -> PathBuf {
        self.state.join("cache")
    }

    /// Where firmware that comes in one file is kept in its two parts.
    pub fn firmware(&self) -> PathBuf {
        self.cache().join("firmware")
    }

    /// Where everything that is made here goes.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A path as a person would type it: relative to where they are, if it is below.
    pub fn short(path: &Path) -> PathBuf {
        env::current_dir()
            .ok()
            .and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf))
            .unwrap_or_else(|| path.to_path_buf())
    }
}
