//! Fetches the packages that go into an image: one package with those of its dependencies that
//! carry the files wanted, kept in the cache, and remembered, so that the next build asks nobody.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use noonmark_image::hash::Sha256Hex;
use noonmark_image::output;
use serde::{Deserialize, Serialize};

use crate::host::apt::{Apt, Package};
use crate::progress;
use crate::workspace::Workspace;

/// More packages than this is no kernel's chain of dependencies.
const PACKAGES_MAX: usize = 16;

/// What to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The package, real or a metapackage.
    pub name: &'a str,
    /// The suite it is taken from; none is the machine's own.
    pub suite: Option<&'a str>,
    /// Tells by their names which dependencies are taken too.
    pub follow: fn(&str) -> bool,
}

/// A package in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetched {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub sha256: Sha256Hex,
}

impl Fetched {
    /// Its bytes.
    ///
    /// # Errors
    ///
    /// It is gone from the cache, or is not what was fetched.
    pub fn read(&self, workspace: &Workspace) -> Result<Vec<u8>> {
        let path = self.path(workspace);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if Sha256Hex::of(&bytes) != self.sha256 {
            bail!(
                "{} has changed since it was downloaded; delete it, and it is fetched again",
                path.display()
            );
        }
        Ok(bytes)
    }

    /// Its file in the cache.
    pub fn path(&self, workspace: &Workspace) -> PathBuf {
        let version = self.version.replace(':', "%3a");
        folder(workspace).join(format!("{}_{version}_{}.deb", self.name, self.architecture))
    }
}

/// The packages as the last call found them, or the newest of the archive.
///
/// # Errors
///
/// There is no such package, or no way to the archive.
pub fn fetch(workspace: &Workspace, wanted: Wanted<'_>) -> Result<Vec<Fetched>> {
    if let Some(known) = remembered(workspace, wanted) {
        return Ok(known);
    }
    newest(workspace, wanted)
}

/// The newest packages of the archive.
///
/// # Errors
///
/// There is no such package, or no way to the archive.
pub fn newest(workspace: &Workspace, wanted: Wanted<'_>) -> Result<Vec<Fetched>> {
    let apt = Apt::open(workspace, wanted.suite)?;
    apt.refresh()?;
    let fetched =
        match resolve(&apt, wanted).and_then(|packages| download(workspace, &apt, &packages)) {
            Ok(fetched) => fetched,
            // The lists may speak of a version that a newer one has replaced since.
            Err(_) => {
                apt.update()?;
                download(workspace, &apt, &resolve(&apt, wanted)?)?
            }
        };
    let text =
        serde_json::to_vec_pretty(&fetched).context("a list of packages has no JSON form")?;
    output::write_file(&memory(workspace, wanted), &text)?;
    Ok(fetched)
}

/// Whether the archive has the package at all.
///
/// # Errors
///
/// There is no way to the archive.
pub fn exists(workspace: &Workspace, name: &str, suite: Option<&str>) -> Result<bool> {
    let apt = Apt::open(workspace, suite)?;
    apt.refresh()?;
    Ok(apt.candidate(name)?.is_some())
}

/// What an earlier call found, if all of it is still in the cache.
fn remembered(workspace: &Workspace, wanted: Wanted<'_>) -> Option<Vec<Fetched>> {
    let text = fs::read(memory(workspace, wanted)).ok()?;
    let known: Vec<Fetched> = serde_json::from_slice(&text).ok()?;
    known
        .iter()
        .all(|package| package.path(workspace).is_file())
        .then_some(known)
}

/// The package and its dependencies as far as they are followed, in the order in which they are
/// found.
fn resolve(apt: &Apt, wanted: Wanted<'_>) -> Result<Vec<Package>> {
    let mut names = vec![wanted.name.to_owned()];
    let mut packages = Vec::new();
    while let Some(name) = names.get(packages.len()) {
        let Some(package) = apt.candidate(name)? else {
            bail!(
                "{} has no package {name}; name another with `kernel.package` and `kernel.suite` \
                 in guest.toml, or files of your own with `kernel.image` and `kernel.modules`",
                apt.what()
            );
        };
        for dependency in &package.depends {
            if (wanted.follow)(dependency) && !names.contains(dependency) {
                names.push(dependency.clone());
            }
        }
        if names.len() > PACKAGES_MAX {
            bail!(
                "{} needs more than {PACKAGES_MAX} packages: {}",
                wanted.name,
                names.join(", ")
            );
        }
        packages.push(package);
    }
    Ok(packages)
}

fn download(workspace: &Workspace, apt: &Apt, packages: &[Package]) -> Result<Vec<Fetched>> {
    let mut all = Vec::new();
    for package in packages {
        let step = progress::step(format!("fetching {} {}", package.name, package.version));
        let path = apt.download(&package.name, &package.version, &folder(workspace))?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let fetched = Fetched {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: Sha256Hex::of(&bytes),
        };
        step.done(format!(
            "fetched {} {} from {}, {} KiB",
            package.name,
            package.version,
            apt.what(),
            bytes.len() / 1024
        ));
        all.push(fetched);
    }
    Ok(all)
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.cache().join("packages")
}

fn memory(workspace: &Workspace, wanted: Wanted<'_>) -> PathBuf {
    let suite = wanted.suite.unwrap_or("machine").replace('/', "_");
    let file = format!("{}@{suite}.json", wanted.name);
    Path::new(&folder(workspace)).join(file)
}
