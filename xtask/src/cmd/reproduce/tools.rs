//! Where a build finds the compiler and the crates' sources.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use noonmark_builder::workspace::Workspace;
use noonmark_builder::{cargo_home, toolchain};

/// What another place for the toolchain is called.
pub const SYSROOT: &str = "toolchain";

/// What another place for cargo's home is called.
pub const CARGO_HOME: &str = "cargo-home";

/// What the other home's settings have beside the place of crates: each of these would make other programs,
/// or none.
const HOSTILE: &str = r#"
[build]
rustc-wrapper = "/no/wrapper"
rustflags = ["-Cforce-frame-pointers=yes"]
[profile.guest]
opt-level = 1
strip = "none"
[profile.release.package."*"]
opt-level = 1
[target.x86_64-unknown-linux-musl]
linker = "/no/linker"
"#;

/// The same as variables: of the toolchain, the compiler, and the settings.
pub const HOSTILE_VARIABLES: [(&str, &str); 8] = [
    ("RUSTUP_TOOLCHAIN", "no-such-toolchain"),
    ("RUSTC", "/no/rustc"),
    ("RUSTC_WRAPPER", "/no/wrapper"),
    ("RUSTFLAGS", "-Copt-level=1"),
    ("CARGO_ENCODED_RUSTFLAGS", "-Copt-level=1"),
    ("CARGO_BUILD_RUSTFLAGS", "-Copt-level=1"),
    ("CARGO_PROFILE_GUEST_OPT_LEVEL", "1"),
    (
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER",
        "/no/linker",
    ),
];

/// The compiler and the crates' sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// The toolchain's own folder, without rustup in between.
    pub sysroot: PathBuf,
    /// Cargo's home.
    pub cargo_home: PathBuf,
}

impl Tools {
    /// Those that images are built with here.
    ///
    /// # Errors
    ///
    /// rustc can't be asked, or there is no home.
    pub fn own(workspace: &Workspace) -> Result<Self> {
        let cargo_home = cargo_home::users(|name| env::var_os(name))?;
        Ok(Self {
            sysroot: toolchain::sysroot(workspace)?,
            cargo_home,
        })
    }

    /// The same tools by a cargo home in `folder`: what cargo notes there of a build, such as the
    /// date on which each crate was last used, is not to be believed where the date is not.
    ///
    /// # Errors
    ///
    /// The folder can't be written.
    pub fn with_another_home(&self, workspace: &Workspace, folder: &Path) -> Result<Self> {
        let other = Self {
            sysroot: self.sysroot.clone(),
            cargo_home: folder.join(CARGO_HOME),
        };
        self.write_hostile_settings(workspace, &other)?;
        other.link_registry(&self.registry())?;
        Ok(other)
    }

    /// Makes the other's cargo home, with settings that say where crates come from as they do here, and
    /// all else otherwise. The keys to private registries stay where they are.
    ///
    /// # Errors
    ///
    /// The settings can't be read, or the other home can't be written.
    pub fn write_hostile_settings(&self, workspace: &Workspace, other: &Self) -> Result<()> {
        let home = &other.cargo_home;
        fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
        let crates = cargo_home::crates_settings(workspace.root(), &self.cargo_home)?;
        let file = home.join("config.toml");
        fs::write(&file, format!("{crates}{HOSTILE}"))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Has the crates' sources lie in another folder.
    ///
    /// # Errors
    ///
    /// The home can't be written.
    pub fn link_registry(&self, to: &Path) -> Result<()> {
        let link = self.registry();
        unix::fs::symlink(to, &link)
            .with_context(|| format!("cannot link {} to {}", link.display(), to.display()))
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
    fn another_home_has_the_crates_and_where_they_come_from_but_other_settings_and_no_credentials()
    {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tools = Tools {
            sysroot: PathBuf::from("/rust"),
            cargo_home: own.path().to_path_buf(),
        };
        let settings = "[net]\nretry = 9\n[profile.guest]\nopt-level = 3\n";
        for (name, text) in [("config.toml", settings), ("credentials.toml", "")] {
            fs::write(own.path().join(name), text).unwrap();
        }
        fs::create_dir(tools.registry()).unwrap();
        fs::write(tools.registry().join("crate"), "source").unwrap();
        let workspace = Workspace::find().unwrap();
        let other = tools.with_another_home(&workspace, other.path()).unwrap();
        let has = |name: &str| other.cargo_home.join(name).exists();
        assert!(has("registry/crate"));
        assert!(!has("credentials.toml"));
        let text = fs::read_to_string(other.cargo_home.join("config.toml")).unwrap();
        let written: toml::Table = text.parse().unwrap();
        assert_eq!(written["net"]["retry"].as_integer(), Some(9));
        assert_eq!(
            written["profile"]["guest"]["opt-level"].as_integer(),
            Some(1)
        );
    }
}
