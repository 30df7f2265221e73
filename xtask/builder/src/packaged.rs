//! A program of the distribution's as files of a guest, with the libraries that it needs, or whole
//! packages for a test: fetched and unpacked like the kernel, and installed nowhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use noonmark_image::deb::{Deb, PackageId};
use noonmark_image::lock::Role;
use noonmark_image::program;
use noonmark_image::spec::{FileSpec, LoadedFile};

use crate::dependencies::Follow;
use crate::packages::{self, Pins, Request};
use crate::workspace::Workspace;

/// An /etc/passwd for a program that looks its own user up.
pub(crate) const PASSWD: &str = "root:x:0:0:root:/:/none\n";

/// The package and those with its libraries, fetched where they are not in the cache.
///
/// # Errors
///
/// There is no such package, or it can't be fetched.
pub(crate) fn fetch(workspace: &Workspace, package: &str) -> Result<Vec<PackageId>> {
    // Debian's names for shared libraries; what else a daemon depends on serves its installation.
    fetch_with(workspace, package, |name| name.starts_with("lib"))
}

/// The package and those that it depends on whose names `follow` accepts.
fn fetch_with(
    workspace: &Workspace,
    package: &str,
    follow: fn(&str) -> bool,
) -> Result<Vec<PackageId>> {
    let request = Request {
        role: Role::Peer,
        name: package,
        suite: None,
        follow: Follow::Named(follow),
    };
    let packages = packages::fetch(workspace, request, &Pins::none())
        .with_context(|| format!("package {package}"))?;
    Ok(packages.into_iter().map(|package| package.id).collect())
}

/// The program at `path` in these packages, with its libraries.
///
/// # Errors
///
/// The packages are not what was fetched, or lack the program or a library.
pub(crate) fn program(
    workspace: &Workspace,
    packages: &[PackageId],
    path: &str,
) -> Result<Vec<LoadedFile>> {
    let files = packages
        .iter()
        .map(|id| {
            let path = packages::path(workspace, id).display().to_string();
            Ok((path, packages::read(workspace, id)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let debs = files
        .iter()
        .map(|(path, bytes)| Deb::open(path, bytes))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(program::with_libraries(&debs, path)?)
}

/// Puts the program at `path` in the package, with its libraries and the linker that loads them, below
/// `folder`, at the paths that they have in the distribution.
///
/// # Errors
///
/// As [`fetch`] and [`program`], or a file can't be written.
pub fn unpack(workspace: &Workspace, package: &str, path: &str, folder: &Path) -> Result<()> {
    let packages = fetch(workspace, package)?;
    for file in program(workspace, &packages, path)? {
        let path = file.spec.path.trim_start_matches('/');
        write(folder, path, &file.bytes, file.spec.mode)?;
    }
    Ok(())
}

/// Puts the plain files of a Python program's package, and of the packages with its modules, below
/// `folder`.
///
/// # Errors
///
/// As [`unpack`].
pub fn unpack_python(workspace: &Workspace, package: &str, folder: &Path) -> Result<()> {
    // cryptography stands on a package that only exists by what provides it, and no test encrypts.
    let follow = |name: &str| name.starts_with("python3-") && name != "python3-cryptography";
    for id in fetch_with(workspace, package, follow)? {
        let bytes = packages::read(workspace, &id)?;
        let deb = Deb::open(
            &packages::path(workspace, &id).display().to_string(),
            &bytes,
        )?;
        let mut written = Ok(());
        deb.files(
            |path| path.starts_with("usr/"),
            |path, content| {
                if written.is_ok() {
                    written = write(folder, path, &content, 0o644);
                }
            },
        )?;
        written?;
    }
    Ok(())
}

fn write(folder: &Path, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let place = folder.join(path);
    let write = || {
        fs::create_dir_all(place.parent().unwrap_or(folder))?;
        fs::write(&place, content)?;
        fs::set_permissions(&place, Permissions::from_mode(mode))
    };
    write().with_context(|| format!("cannot write {}", place.display()))
}

/// A file of this text.
pub(crate) fn text(path: &str, content: &str) -> LoadedFile {
    LoadedFile {
        spec: FileSpec {
            path: path.to_owned(),
            source: PathBuf::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
        },
        bytes: content.as_bytes().to_vec(),
    }
}
