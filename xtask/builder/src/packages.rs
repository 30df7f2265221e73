//! Fetches the packages that go into an image: one package with those of its dependencies that
//! carry the files wanted, kept in the cache. Which packages that came to is written beside them, so
//! that the next build does not ask the archive.
//!
//! Which version is taken: the one that `guest.lock` pins for the suite; without a pin, the one that
//! was taken the last time; without that, the newest.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use noonmark_image::deb::{Deb, PackageId};
use noonmark_image::hash::Sha256Hex;
use noonmark_image::lock::{Lock, LockedPackage, Role};
use noonmark_image::output;
use noonmark_image::spec::Description;

use crate::apt::Apt;
use crate::dependencies::{self, Follow};
use crate::distribution::Distribution;
use crate::progress;
use crate::workspace::Workspace;

/// A package to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it is for.
    pub role: Role,
    /// The package, real or a metapackage.
    pub name: &'a str,
    /// The suite it is taken from; none is the machine's own.
    pub suite: Option<&'a str>,
    /// Which dependencies are taken too.
    pub follow: Follow,
}

impl Request<'_> {
    /// The distribution and suite that it is taken from: `debian bookworm`.
    fn origin(&self) -> Result<String> {
        let machine = Distribution::of_machine()?;
        let suite = self.suite.unwrap_or(&machine.codename);
        Ok(format!("{} {suite}", machine.id))
    }
}

/// The versions that `guest.lock` pins.
#[derive(Debug)]
pub struct Pins {
    /// The path of `guest.lock`, for messages.
    file: PathBuf,
    lock: Lock,
    /// Whether nothing but the pinned version will do.
    locked_only: bool,
}

impl Pins {
    /// None at all: what the cache has is taken, else the newest.
    pub(crate) fn none() -> Self {
        Self {
            file: PathBuf::new(),
            lock: Lock::default(),
            locked_only: false,
        }
    }

    /// The pins of the lock beside a spec, or beside the nearest file that it extends and that has one;
    /// none where there is no lock and none is locked_only.
    ///
    /// # Errors
    ///
    /// The lock is broken, or locked_only and not there.
    pub fn beside(spec: &Description, locked_only: bool) -> Result<Self> {
        let mut files = spec.files().iter().rev().map(|part| lock_file(&part.file));
        let own = files.next().unwrap_or_default();
        let mut all = iter::once(own.clone()).chain(files);
        let file = all.find(|file| file.exists()).unwrap_or(own);
        let lock = if file.exists() {
            let text = fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            Lock::parse(&text, &file)?
        } else if locked_only {
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
            locked_only,
        })
    }

    fn of(&self, request: Request<'_>) -> Result<Vec<LockedPackage>> {
        let pinned = self
            .lock
            .of(request.role, request.name, &request.origin()?)
            .into_iter();
        Ok(pinned.cloned().collect())
    }

    /// Says that there is no pin, and for which suites there are some.
    fn missing_pin(&self, request: Request<'_>) -> Result<String> {
        let others = Vec::from_iter(self.lock.suites(request.role, request.name));
        Ok(format!(
            "{} has no pin for {} of {}{}",
            self.file.display(),
            request.name,
            request.origin()?,
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
/// There is no such package, no way to the archive, or it has not what is locked_only.
pub fn fetch(
    workspace: &Workspace,
    request: Request<'_>,
    pins: &Pins,
) -> Result<Vec<LockedPackage>> {
    let pinned = pins.of(request)?;
    if pinned.is_empty() {
        if pins.locked_only {
            bail!(
                "--locked: {}; take it in with `cargo xtask lock`",
                pins.missing_pin(request)?
            );
        }
        let resolution = resolution_file(workspace, request, "")?;
        if let Some(packages) = read_resolution(workspace, &resolution) {
            return Ok(packages);
        }
        // A package that is pinned for other suites should be pinned for this one; one that is
        // pinned for none need not be.
        if !pins.lock.suites(request.role, request.name).is_empty() {
            progress::note(format!(
                "{}: taking the newest; `cargo xtask lock` takes it into the lock",
                pins.missing_pin(request)?
            ));
        }
        return download_newest(workspace, request, &resolution);
    }
    if is_cached(workspace, &pinned) {
        return Ok(pinned);
    }
    if pins.locked_only {
        download_pinned(workspace, request, pins, &pinned)
            .with_context(|| format!("--locked: {} can't be kept", pins.file.display()))?;
        return Ok(pinned);
    }
    // The packages that an earlier build took in place of these pins; other pins, another file.
    let resolution = resolution_file(workspace, request, &fingerprint(&pinned))?;
    let packages = match read_resolution(workspace, &resolution) {
        Some(packages) => packages,
        None => match download_pinned(workspace, request, pins, &pinned) {
            Ok(()) => return Ok(pinned),
            Err(error) if is_tampered(&error) => return Err(error),
            Err(error) => {
                progress::note(format!("{error:#}"));
                download_newest(workspace, request, &resolution)?
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
    request: Request<'_>,
    pins: &Pins,
) -> Option<Vec<LockedPackage>> {
    let pinned = pins.of(request).ok()?;
    if pinned.is_empty() {
        return read_resolution(workspace, &resolution_file(workspace, request, "").ok()?);
    }
    if is_cached(workspace, &pinned) {
        return Some(pinned);
    }
    let resolution = resolution_file(workspace, request, &fingerprint(&pinned)).ok()?;
    read_resolution(workspace, &resolution).filter(|_| !pins.locked_only)
}

/// The newest packages of the archive, whatever is pinned or in the cache.
///
/// # Errors
///
/// There is no such package, or no way to the archive.
pub fn update(workspace: &Workspace, request: Request<'_>) -> Result<Vec<LockedPackage>> {
    Apt::open(workspace, request.suite)?.update()?;
    download_newest(
        workspace,
        request,
        &resolution_file(workspace, request, "")?,
    )
}

/// Whether the archive has the package at all.
///
/// # Errors
///
/// There is no way to the archive.
pub(crate) fn exists(workspace: &Workspace, name: &str, suite: Option<&str>) -> Result<bool> {
    let apt = Apt::open(workspace, suite)?;
    apt.refresh()?;
    Ok(apt.candidate(name)?.is_some())
}

/// A package's file in the cache.
pub(crate) fn path(workspace: &Workspace, id: &PackageId) -> PathBuf {
    let version = id.version.replace(':', "%3a");
    folder(workspace).join(format!("{}_{version}_{}.deb", id.package, id.architecture))
}

/// A package's bytes.
///
/// # Errors
///
/// It is gone from the cache, or is not what was fetched.
pub(crate) fn read(workspace: &Workspace, id: &PackageId) -> Result<Vec<u8>> {
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

/// The newest packages; which they are is written to the file `resolution`.
fn download_newest(
    workspace: &Workspace,
    request: Request<'_>,
    resolution: &Path,
) -> Result<Vec<LockedPackage>> {
    let apt = Apt::open(workspace, request.suite)?;
    apt.refresh()?;
    let attempt = || -> Result<Vec<LockedPackage>> {
        dependencies::resolve(&apt, request.name, request.follow, way_out(request.role))?
            .iter()
            .map(|package| {
                let id = download(workspace, &apt, &package.name, &package.version)?;
                pinned(request, id)
            })
            .collect()
    };
    // The package lists may be older than the archive, and name a version that is gone.
    let packages = attempt().or_else(|_| {
        apt.update()?;
        attempt()
    })?;
    // In the lock's order, in which the next build reads them back.
    let lock = Lock::new(packages);
    output::write_file(resolution, lock.to_toml().as_bytes())?;
    Ok(lock.packages)
}

/// Fetches just these versions.
fn download_pinned(
    workspace: &Workspace,
    request: Request<'_>,
    pins: &Pins,
    pinned: &[LockedPackage],
) -> Result<()> {
    let apt = Apt::open(workspace, request.suite)?;
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
        pins.lock.check(request.role, &request.origin()?, &found)?;
    }
    Ok(())
}

/// A package that is there under its pinned version with other bytes is never passed over.
fn is_tampered(error: &anyhow::Error) -> bool {
    error.is::<noonmark_image::lock::LockMismatch>()
}

/// What can be done where there is no such package.
fn way_out(role: Role) -> &'static str {
    match role {
        Role::Kernel => {
            "; name another with `kernel.package` and `kernel.suite` in guest.toml, or files of your \
             own with `kernel.image` and `kernel.modules`"
        }
        Role::Content => {
            "; [[package]] and [[program]] of guest.toml name it, and may name a `suite`"
        }
        Role::Stub | Role::Host | Role::Peer => "",
    }
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

fn pinned(request: Request<'_>, id: PackageId) -> Result<LockedPackage> {
    Ok(LockedPackage {
        role: request.role,
        requested: request.name.to_owned(),
        suite: request.origin()?,
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

/// What an earlier build took, if all of its packages are still in the cache.
fn read_resolution(workspace: &Workspace, resolution: &Path) -> Option<Vec<LockedPackage>> {
    let text = fs::read_to_string(resolution).ok()?;
    let packages = Lock::parse(&text, resolution).ok()?.packages;
    is_cached(workspace, &packages).then_some(packages)
}

/// The file that records which packages a request came to; `instead_of` is the fingerprint of the
/// pinned packages that those stand in for.
fn resolution_file(
    workspace: &Workspace,
    request: Request<'_>,
    instead_of: &str,
) -> Result<PathBuf> {
    let suite = request.origin()?.replace([' ', '/'], "_");
    let separator = if instead_of.is_empty() { "" } else { "-" };
    Ok(folder(workspace).join(format!(
        "{}@{suite}{separator}{instead_of}.lock",
        request.name
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
