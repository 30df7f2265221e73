//! `guest.lock`: the distribution's packages that an image was made of, so that the next build
//! takes the same ones or says that it can't.
//!
//! Machines of different releases take their packages from different suites, so one lock can have
//! the packages of several, and each machine goes by those of its own.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::deb::PackageId;
use crate::hash::Sha256Hex;
use crate::text::{TextError, TomlDocument};

/// The version of the format.
const VERSION: u32 = 1;

/// The lock's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// The packages, sorted.
    pub packages: Vec<LockedPackage>,
}

/// One package of the lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockedPackage {
    /// What it is for.
    pub role: Role,
    /// The package that the spec names, from which this one followed; e.g. a metapackage.
    pub requested: String,
    /// The distribution and suite that it is of, e.g. `debian bookworm-backports`.
    pub suite: String,
    /// The package itself.
    pub id: PackageId,
}

/// What a package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Kernel image or modules.
    Kernel,
    /// The EFI stub.
    Stub,
    /// The kernel of an emulated KVM host; no image of a guest has it.
    Host,
    /// Content of the image, by `[[package]]` or `[[program]]`.
    Content,
    /// A program to compare with, and its libraries; no image but a peer's has them.
    Peer,
}

/// A package that is not the one that the lock has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LockMismatch {
    /// The lock has none of this name.
    #[error(
        "guest.lock has no package `{package}` of {suite}; run `cargo xtask lock` to take it in"
    )]
    Unlocked {
        /// The package.
        package: String,
        /// The distribution and suite.
        suite: String,
    },
    /// Another version.
    #[error(
        "guest.lock has {package} {locked}, but this is {found}; run `cargo xtask lock` to take \
         the new one"
    )]
    Version {
        /// The package.
        package: String,
        /// The lock's version.
        locked: String,
        /// This one's.
        found: String,
    },
    /// The same version, but not the same bytes.
    #[error(
        "{package} {version} has SHA-256 {found}, but guest.lock has {locked}: it was changed on \
         its way, or rebuilt; delete the cached file, and if it stays so, don't use it"
    )]
    Hash {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// The lock's hash.
        locked: Sha256Hex,
        /// This one's.
        found: Sha256Hex,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLock {
    version: u32,
    #[serde(default)]
    package: Vec<RawPackage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPackage {
    name: String,
    version: String,
    architecture: String,
    sha256: Sha256Hex,
    size: u64,
    role: Role,
    requested: String,
    suite: String,
}

impl Lock {
    /// Parses `guest.lock`. `file` is only for messages.
    ///
    /// # Errors
    /// What is wrong, with line, column and key.
    pub fn parse(text: &str, file: &Path) -> Result<Self, TextError> {
        let doc = TomlDocument::of(text, file);
        let raw: RawLock = doc.parse()?;
        if raw.version != VERSION {
            let problem = format!("{}: expected {VERSION}; take a newer noonmark", raw.version);
            return Err(doc.error(None, "version", problem));
        }
        let packages = raw.package.into_iter().map(|raw| LockedPackage {
            role: raw.role,
            requested: raw.requested,
            suite: raw.suite,
            id: PackageId {
                package: raw.name,
                version: raw.version,
                architecture: raw.architecture,
                sha256: raw.sha256,
                size: raw.size,
            },
        });
        Ok(Self::new(packages.collect()))
    }

    /// A lock of these packages.
    #[must_use]
    pub fn new(mut packages: Vec<LockedPackage>) -> Self {
        packages.sort();
        packages.dedup();
        Self { packages }
    }

    /// The packages for this role that followed from what the spec names now, of this distribution
    /// and suite; empty where the spec has changed since, or the lock is of other releases.
    #[must_use]
    pub fn of(&self, role: Role, requested: &str, suite: &str) -> Vec<&LockedPackage> {
        self.packages
            .iter()
            .filter(|p| p.role == role && p.requested == requested && p.suite == suite)
            .collect()
    }

    /// The distributions and suites of which it has what the spec names for this role.
    #[must_use]
    pub fn suites(&self, role: Role, requested: &str) -> BTreeSet<&str> {
        self.packages
            .iter()
            .filter(|p| p.role == role && p.requested == requested)
            .map(|p| p.suite.as_str())
            .collect()
    }

    /// Whether a package of this distribution and suite is the one that the lock has.
    ///
    /// # Errors
    /// How it differs.
    pub fn check(&self, role: Role, suite: &str, found: &PackageId) -> Result<(), LockMismatch> {
        let locked = self
            .packages
            .iter()
            .filter(|p| p.role == role && p.suite == suite)
            .map(|p| &p.id)
            .find(|id| id.package == found.package && id.architecture == found.architecture)
            .ok_or_else(|| LockMismatch::Unlocked {
                package: found.package.clone(),
                suite: suite.to_owned(),
            })?;
        if locked.version != found.version {
            return Err(LockMismatch::Version {
                package: found.package.clone(),
                locked: locked.version.clone(),
                found: found.version.clone(),
            });
        }
        if locked.sha256 != found.sha256 {
            return Err(LockMismatch::Hash {
                package: found.package.clone(),
                version: found.version.clone(),
                locked: locked.sha256,
                found: found.sha256,
            });
        }
        Ok(())
    }

    /// The file's text; the same for the same packages.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "# The packages that the image is made of, by release of the machine that builds it.\n\
             # `cargo xtask lock` writes this file.\n\
             version = {VERSION}\n"
        );
        let quoted = |value: &str| toml::Value::from(value).to_string();
        for package in &self.packages {
            let id = &package.id;
            let role = match package.role {
                Role::Kernel => "kernel",
                Role::Stub => "stub",
                Role::Host => "host",
                Role::Content => "content",
                Role::Peer => "peer",
            };
            let mut line = |key: &str, value: String| {
                // Writing to a String can't fail.
                let _ = writeln!(text, "{key} = {value}");
            };
            line("\n[[package]]\nname", quoted(&id.package));
            line("version", quoted(&id.version));
            line("architecture", quoted(&id.architecture));
            line("sha256", quoted(&id.sha256.to_string()));
            line("size", id.size.to_string());
            line("role", quoted(role));
            line("requested", quoted(&package.requested));
            line("suite", quoted(&package.suite));
        }
        text
    }
}
