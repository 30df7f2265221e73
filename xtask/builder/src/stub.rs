//! Fetches systemd's EFI stub, on which the unified kernel image of a disk stands.

use anyhow::{Context as _, Result, bail};
use noonmark_image::deb::{Deb, PackageId};
use noonmark_image::lock::{LockedPackage, Role};
use noonmark_image::uki::Stub;

use crate::dependencies::Follow;
use crate::packages::{self, Pins, Request};
use crate::workspace::Workspace;

/// The distribution's package that has the stub, in Debian 12 and later and Ubuntu 23.04 and later.
pub const REQUEST: Request<'static> = Request {
    role: Role::Stub,
    name: "systemd-boot-efi",
    suite: None,
    follow: Follow::Named(|_| false),
};

/// The stub's package, fetched where it is not in the cache.
///
/// # Errors
///
/// There is no such package, or it can't be fetched.
pub(crate) fn fetch(workspace: &Workspace, pins: &Pins) -> Result<PackageId> {
    let packages = packages::fetch(workspace, REQUEST, pins)
        .with_context(|| format!("no EFI stub for the disk: package {}", REQUEST.name))?;
    let [LockedPackage { id, .. }] = packages.as_slice() else {
        bail!(
            "the lock has {} packages for the EFI stub, expected one; write it anew with `cargo \
             xtask lock`",
            packages.len()
        );
    };
    Ok(id.clone())
}

/// The stub itself.
///
/// # Errors
///
/// The package is not what was fetched, or has no stub for x86-64.
pub(crate) fn unpack(workspace: &Workspace, id: &PackageId) -> Result<Stub> {
    let bytes = packages::read(workspace, id)?;
    let file = packages::path(workspace, id).display().to_string();
    Ok(Stub::from_package(&Deb::open(&file, &bytes)?)?)
}
