//! Fetches the packages that go into an image: one package with those of its dependencies that
//! carry the files wanted, kept in the cache, and remembered, so that the next build asks nobody.
//!
//! Which version is taken: the one that `guest.lock` pins for the suite; without a pin, the one that
//! was taken the last time; without that, the newest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use noonmark_image::deb::{Deb, PackageId};
use noonmark_image::hash::Sha256Hex;
use noonmark_image::lock::{Lock, LockedPackage, Role};
use noonmark_image::output;

use crate::host::apt::{Apt, Distribution, Package};
use crate::progress;
use crate::workspace::Workspace;

/// More packages than this is no kernel's chain of dependencies, nor a daemon's.
const PACKAGES_MAX: usize = 40;

/// What to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What it is for.
    pub role: Role,
    /// The package, real or a metapackage.
    pub name: &'a str,
    /// The suite it is taken from; none is the machine's own.
    pub suite: Option<&'a str>,
    /// Tells by their names which dependencies are taken too.
    pub follow: fn(&str) -> bool,
}

impl Wanted<'_> {
    /// The distribution and suite that it is taken from: `debian bookworm`.
    ///
    /// # Errors
    ///
    /// This machine has no APT, or doesn't say what it is.
    pub fn origin(&self) -> Result<String> {
        let machine = Distribution::of_machine()?;
        let suite = self.suite.unwrap_or(&machine.codename);
        Ok(format!("{} {suite}", machine.id))
    }
}

/// The versions that a build is to take.
#[derive(Debug)]
pub struct Pins {
    /// The lock's file, for messages.
    file: PathBuf,
    lock: Lock,
    /// Whether nothing but the pinned version will do.
    demanded: bool,
}

impl Pins {
    /// None at all: what the cache has is taken, else the newest.
    pub fn none() -> Self {
        Self {
            file: PathBuf::new(),
            lock: Lock::default(),
            demanded: false,
        }
    }

    /// The pins of the lock beside a spec; none where there is no lock and none is demanded.
    ///
    /// # Errors
    ///
    /// The lock is broken, or demanded and not there.
    pub fn beside(spec_file: &Path, demanded: bool) -> Result<Self> {
        let file = lock_file(spec_file);
        let lock = if file.exists() {
            let text = fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            Lock::parse(&text, &file)?
        } else if demanded {
            bail!(
                "--locked: there is no {}; write it with `cargo xtask lock`",
                file.display()
            );
        } else {
            Lock::default()
        };
        Ok(Self {
            file,
            lock,
            demanded,
        })
    }

    fn of(&self, wanted: Wanted<'_>) -> Result<Vec<LockedPackage>> {
        let pinned = self
            .lock
            .of(wanted.role, wanted.name, &wanted.origin()?)
            .into_iter();
        Ok(pinned.cloned().collect())
    }

    /// That there is no pin, and for whom there are some.
    fn lacks(&self, wanted: Wanted<'_>) -> Result<String> {
        let others = Vec::from_iter(self.lock.suites(wanted.role, wanted.name));
        Ok(format!(
            "{} has no pin for {} of {}{}",
            self.file.display(),
            wanted.name,
            wanted.origin()?,
            if others.is_empty() {
                String::new()
            } else {
                format!(", only of {}", others.join(", "))
            }
        ))
    }
}

/// The lock of a spec: `guest.lock` beside `guest.toml`.
pub fn lock_file(spec_file: &Path) -> PathBuf {
    spec_file.with_extension("lock")
}

/// The packages that a build takes, all of them in the cache.
///
/// # Errors
///
/// There is no such package, no way to the archive, or it has not what is demanded.
pub fn fetch(workspace: &Workspace, wanted: Wanted<'_>, pins: &Pins) -> Result<Vec<LockedPackage>> {
    let pinned = pins.of(wanted)?;
    if pinned.is_empty() {
        if pins.demanded {
            bail!(
                "--locked: {}; take it in with `cargo xtask lock`",
                pins.lacks(wanted)?
            );
        }
        let memory = memory(workspace, wanted, "")?;
        if let Some(packages) = recall(workspace, &memory) {
            return Ok(packages);
        }
        // What is pinned for others is meant to be pinned; what is pinned for nobody is not.
        if !pins.lock.suites(wanted.role, wanted.name).is_empty() {
            progress::note(format!(
                "{}: taking the newest; `cargo xtask lock` takes it into the lock",
                pins.lacks(wanted)?
            ));
        }
        return newest(workspace, wanted, &memory);
    }
    if is_cached(workspace, &pinned) {
        return Ok(pinned);
    }
    if pins.demanded {
        take_pinned(workspace, wanted, pins, &pinned)
            .with_context(|| format!("--locked: {} can't be kept", pins.file.display()))?;
        return Ok(pinned);
    }
    // What stands in for these pins; another lock is tried anew.
    let memory = memory(workspace, wanted, &fingerprint(&pinned))?;
    let packages = match recall(workspace, &memory) {
        Some(packages) => packages,
        None => match take_pinned(workspace, wanted, pins, &pinned) {
            Ok(()) => return Ok(pinned),
            Err(error) if is_tampered(&error) => return Err(error),
            Err(error) => {
                progress::note(format!("{error:#}"));
                newest(workspace, wanted, &memory)?
            }
        },
    };
    progress::note(format!(
        "WARNING: not the packages of {}: taking {} in place of {}; `cargo xtask lock` takes them \
         into the lock",
        pins.file.display(),
        versions(&packages),
        versions(&pinned)
    ));
    Ok(packages)
}

/// What [`fetch`] would take from the cache; none where it would have to ask the archive.
pub fn cached(
    workspace: &Workspace,
    wanted: Wanted<'_>,
    pins: &Pins,
) -> Option<Vec<LockedPackage>> {
    let pinned = pins.of(wanted).ok()?;
    if pinned.is_empty() {
        return recall(workspace, &memory(workspace, wanted, "").ok()?);
    }
    if is_cached(workspace, &pinned) {
        return Some(pinned);
    }
    let memory = memory(workspace, wanted, &fingerprint(&pinned)).ok()?;
    recall(workspace, &memory).filter(|_| !pins.demanded)
}

/// The newest packages of the archive, whatever is pinned or remembered.
///
/// # Errors
///
/// There is no such package, or no way to the archive.
pub fn update(workspace: &Workspace, wanted: Wanted<'_>) -> Result<Vec<LockedPackage>> {
    Apt::open(workspace, wanted.suite)?.update()?;
    newest(workspace, wanted, &memory(workspace, wanted, "")?)
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

/// A package's file in the cache.
pub fn path(workspace: &Workspace, id: &PackageId) -> PathBuf {
    let version = id.version.replace(':', "%3a");
    folder(workspace).join(format!("{}_{version}_{}.deb", id.package, id.architecture))
}

/// A package's bytes.
///
/// # Errors
///
/// It is gone from the cache, or is not what was fetched.
pub fn read(workspace: &Workspace, id: &PackageId) -> Result<Vec<u8>> {
    let path = path(workspace, id);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if Sha256Hex::of(&bytes) != id.sha256 {
        bail!(
            "{} is not the file with SHA-256 {} that it should be; delete it, and it is fetched \
             again",
            path.display(),
            id.sha256
        );
    }
    Ok(bytes)
}

/// The newest packages, written to `memory`.
fn newest(workspace: &Workspace, wanted: Wanted<'_>, memory: &Path) -> Result<Vec<LockedPackage>> {
    let apt = Apt::open(workspace, wanted.suite)?;
    apt.refresh()?;
    let attempt = || -> Result<Vec<LockedPackage>> {
        resolve(&apt, wanted)?
            .iter()
            .map(|package| {
                let id = download(workspace, &apt, &package.name, &package.version)?;
                locked(wanted, id)
            })
            .collect()
    };
    // The lists may speak of a version that a newer one has replaced since.
    let packages = attempt().or_else(|_| {
        apt.update()?;
        attempt()
    })?;
    // The lock's order is the one in which the next build recalls them.
    let lock = Lock::new(packages);
    output::write_file(memory, lock.to_toml().as_bytes())?;
    Ok(lock.packages)
}

/// Fetches just these versions.
fn take_pinned(
    workspace: &Workspace,
    wanted: Wanted<'_>,
    pins: &Pins,
    pinned: &[LockedPackage],
) -> Result<()> {
    let apt = Apt::open(workspace, wanted.suite)?;
    apt.refresh()?;
    for LockedPackage { id, .. } in pinned {
        let take = || download(workspace, &apt, &id.package, &id.version);
        let found = take().or_else(|_| {
            apt.update()?;
            take().with_context(|| {
                format!(
                    "{} does not have the pinned {} {} (any more)",
                    apt.what(),
                    id.package,
                    id.version
                )
            })
        })?;
        pins.lock.check(wanted.role, &wanted.origin()?, &found)?;
    }
    Ok(())
}

/// A package that is there under its pinned version with other bytes is never passed over.
fn is_tampered(error: &anyhow::Error) -> bool {
    error.is::<noonmark_image::lock::LockMismatch>()
}

/// The package and its dependencies as far as they are followed, in the order in which they are
/// found.
fn resolve(apt: &Apt, wanted: Wanted<'_>) -> Result<Vec<Package>> {
    let mut names = vec![wanted.name.to_owned()];
    let mut packages = Vec::new();
    while let Some(name) = names.get(packages.len()) {
        let Some(package) = apt.candidate(name)? else {
            let way_out = match wanted.role {
                Role::Kernel => {
                    "; name another with `kernel.package` and `kernel.suite` in guest.toml, or \
                     files of your own with `kernel.image` and `kernel.modules`"
                }
                Role::Stub | Role::Peer => "",
            };
            bail!("{} has no package {name}{way_out}", apt.what());
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

fn download(workspace: &Workspace, apt: &Apt, name: &str, version: &str) -> Result<PackageId> {
    let step = progress::step(format!("fetching {name} {version}"));
    let path = apt.download(name, version, &folder(workspace))?;
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let id = Deb::open(&path.display().to_string(), &bytes)?.id;
    step.done(format!(
        "fetched {name} {version} from {}, {} KiB",
        apt.what(),
        id.size.div_ceil(1024)
    ));
    Ok(id)
}

fn locked(wanted: Wanted<'_>, id: PackageId) -> Result<LockedPackage> {
    Ok(LockedPackage {
        role: wanted.role,
        requested: wanted.name.to_owned(),
        suite: wanted.origin()?,
        id,
    })
}

fn is_cached(workspace: &Workspace, packages: &[LockedPackage]) -> bool {
    // The hash is checked when the bytes are read; the size tells a cut-off file at no cost.
    packages.iter().all(|package| {
        fs::metadata(path(workspace, &package.id))
            .is_ok_and(|metadata| metadata.len() == package.id.size)
    })
}

/// What an earlier build took, if all of it is still in the cache.
fn recall(workspace: &Workspace, memory: &Path) -> Option<Vec<LockedPackage>> {
    let text = fs::read_to_string(memory).ok()?;
    let packages = Lock::parse(&text, memory).ok()?.packages;
    is_cached(workspace, &packages).then_some(packages)
}

fn memory(workspace: &Workspace, wanted: Wanted<'_>, instead_of: &str) -> Result<PathBuf> {
    let suite = wanted.origin()?.replace([' ', '/'], "_");
    let separator = if instead_of.is_empty() { "" } else { "-" };
    Ok(folder(workspace).join(format!(
        "{}@{suite}{separator}{instead_of}.lock",
        wanted.name
    )))
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.cache().join("packages")
}

/// Tells one set of packages from another; short, for a file's name.
fn fingerprint(packages: &[LockedPackage]) -> String {
    let parts: Vec<&[u8]> = packages
        .iter()
        .map(|package| package.id.sha256.0.as_slice())
        .collect();
    Sha256Hex::of_parts(&parts).to_string()[..16].to_owned()
}

fn versions(packages: &[LockedPackage]) -> String {
    let versions: Vec<String> = packages
        .iter()
        .map(|package| format!("{} {}", package.id.package, package.id.version))
        .collect();
    versions.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_package_that_is_not_the_pinned_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_test(folder.path());
        let id = PackageId {
            package: "linux".to_owned(),
            version: "1:6.1-1".to_owned(),
            architecture: "amd64".to_owned(),
            sha256: Sha256Hex::of(b"what was pinned"),
            size: 15,
        };
        let file = path(&workspace, &id);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "what was pinned").unwrap();
        assert_eq!(read(&workspace, &id).unwrap(), b"what was pinned");
        fs::write(&file, "something other").unwrap();
        let told = read(&workspace, &id).unwrap_err().to_string();
        assert!(told.contains("linux_1%3a6.1-1_amd64.deb"), "{told}");
        assert!(told.contains(&id.sha256.to_string()), "{told}");
    }
}
