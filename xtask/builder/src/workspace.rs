//! Where things are: the checkout or the project, and the folder that holds all that is made.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use noonmark_qemu::kvm_host;

use crate::bundle::Bundle;

/// A project's description, by which its folder is known.
pub const DESCRIPTION: &str = "guest.toml";

/// The checkout that this program works on, or the project.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    state: PathBuf,
    cache: PathBuf,
    /// Where there is no checkout to compile the guest's programs from.
    bundle: Option<&'static Bundle>,
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
        let state = target.join("noonmark");
        Ok(Self {
            root: root.to_path_buf(),
            cache: state.join("cache"),
            state,
            bundle: None,
        })
    }

    /// The project that the current folder is in: the nearest folder upward with a `guest.toml`.
    /// What is made goes below its `target/noonmark`; what is downloaded, to the user's cache folder
    /// (`XDG_CACHE_HOME`, else `~/.cache`), which all projects share.
    ///
    /// # Errors
    ///
    /// There is no such folder, or the user has no home.
    pub fn project(bundle: &'static Bundle) -> Result<Self> {
        let here = env::current_dir().context("cannot tell the current folder")?;
        let root = here
            .ancestors()
            .find(|folder| folder.join(DESCRIPTION).is_file())
            .with_context(|| {
                format!(
                    "neither {} nor a folder above it has a {DESCRIPTION}; `noonmark init` makes one",
                    here.display()
                )
            })?;
        let state = root.join("target/noonmark");
        let absolute = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|dir| dir.is_absolute())
        };
        let cache = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .map(|cache| cache.join("noonmark"))
            // An emulated host has no user, and downloads nothing.
            .or_else(|| kvm_host::inside().map(|_| state.join("cache")))
            .context("there is no folder for downloads: set XDG_CACHE_HOME or HOME")?;
        Ok(Self {
            root: root.to_path_buf(),
            state,
            cache,
            bundle: Some(bundle),
        })
    }

    /// A checkout in a folder of a test.
    #[cfg(test)]
    pub fn of_test(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            state: root.join("target/noonmark"),
            cache: root.join("target/noonmark/cache"),
            bundle: None,
        }
    }

    /// The guest's programs, where this program brings them along.
    pub fn bundle(&self) -> Option<&'static Bundle> {
        self.bundle
    }

    /// The file by which the folder is found from inside.
    pub fn landmark(&self) -> PathBuf {
        let name = self.bundle.map_or("Cargo.lock", |_| DESCRIPTION);
        self.root.join(name)
    }

    /// The checkout's or project's top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where everything that is downloaded is kept. It may be deleted at any time between runs.
    pub fn cache(&self) -> PathBuf {
        self.cache.clone()
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
