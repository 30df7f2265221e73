//! Fetches systemd's EFI stub, on which the unified kernel image of a disk stands.

use anyhow::{Context as _, Result};
use noonmark_image::deb::Deb;
use noonmark_image::uki::Stub;

use super::image::Kind;
use super::packages::{self, Fetched, Wanted};
use crate::workspace::Workspace;

/// The distribution's package that has the stub, in Debian 12 and later and Ubuntu 23.04 and later.
const PACKAGE: &str = "systemd-boot-efi";

/// The stub's package, fetched where it is not in the cache; none for an image that is only booted
/// directly.
///
/// # Errors
///
/// There is no such package, or it can't be fetched.
pub fn choose(workspace: &Workspace, kind: Kind) -> Result<Option<Fetched>> {
    if kind == Kind::Test {
        return Ok(None);
    }
    let wanted = Wanted {
        name: PACKAGE,
        suite: None,
        follow: |_| false,
    };
    let fetched = packages::fetch(workspace, wanted)
        .with_context(|| format!("no EFI stub for the disk: package {PACKAGE}"))?;
    Ok(fetched.into_iter().next())
}

/// The stub itself.
///
/// # Errors
///
/// The package is not what was fetched, or has no stub for x86-64.
pub fn unpack(workspace: &Workspace, package: &Fetched) -> Result<Stub> {
    let path = package.path(workspace);
    let bytes = package.read(workspace)?;
    Ok(Stub::from_package(&Deb::open(
        &path.display().to_string(),
        &bytes,
    )?)?)
}
