//! What the guest's programs were made of, for the manifest: the compiler, and the crates as
//! `Cargo.lock` has them.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use noonmark_image::hash::Sha256Hex;
use noonmark_image::inputs::{Crate, Provenance};
use noonmark_image::spec::{Description, DescriptionFile};
use serde::Deserialize;
use xshell::{Shell, cmd};

use crate::exec;
use crate::prerequisites::GUEST_TARGET;
use crate::programs::GUEST_PACKAGES;
use crate::toolchain::{Environment, TOP, Toolchain};
use crate::workspace::Workspace;

/// `Cargo.lock`, as far as it is read here.
#[derive(Deserialize)]
struct CargoLock {
    package: Vec<LockedCrate>,
}

#[derive(Deserialize)]
struct LockedCrate {
    name: String,
    version: String,
    checksum: Option<Sha256Hex>,
}

/// The provenance of a build from this spec.
///
/// # Errors
///
/// Cargo or rustc can't be asked, or `Cargo.lock` can't be read.
pub fn of(workspace: &Workspace, spec: &Description) -> Result<Provenance> {
    let (rustc, crates) = match workspace.bundle() {
        Some(bundle) => (bundle.rustc().to_owned(), bundle.crates().to_vec()),
        None => (rustc(workspace)?, crates(workspace)?),
    };
    Ok(Provenance {
        spec: spec.files().iter().map(named).collect(),
        rustc: Some(rustc),
        crates,
    })
}

/// A file of the spec by its name alone: where it lies is nobody else's business.
fn named(part: &DescriptionFile) -> (String, String) {
    let name = part.file.file_name().unwrap_or_default();
    (name.to_string_lossy().into_owned(), part.text.clone())
}

/// The compiler of a checkout's programs, as it calls itself.
pub(crate) fn rustc(workspace: &Workspace) -> Result<String> {
    let shell = Shell::new().context("cannot tell the current folder")?;
    let toolchain = Toolchain::of(workspace)?;
    let rustc = toolchain.rustc();
    let told = exec::read(
        toolchain
            .environment()
            .run(cmd!(shell, "{rustc} --version")),
    )?;
    Ok(told.trim().to_owned())
}

/// The crates that a checkout's programs are made of.
pub(crate) fn crates(workspace: &Workspace) -> Result<Vec<Crate>> {
    let toolchain = Toolchain::of(workspace)?;
    let mut command = MetadataCommand::new();
    for name in Environment::dropped() {
        command.env_remove(name);
    }
    for (name, value) in toolchain.variables() {
        command.env(name, value);
    }
    let metadata = command
        .cargo_path(toolchain.cargo())
        .current_dir(TOP)
        .manifest_path(workspace.root().join("Cargo.toml"))
        .other_options(vec![
            "--locked".to_owned(),
            format!("--filter-platform={GUEST_TARGET}"),
        ])
        .exec()
        .context("cargo can't tell the crates of the guest's programs")?;
    let checksums = checksums(workspace)?;
    let mut crates: Vec<Crate> = reachable(&metadata)
        .into_iter()
        .filter_map(|id| metadata.packages.iter().find(|package| &package.id == id))
        .map(|package| {
            let (name, version) = (package.name.to_string(), package.version.to_string());
            let sha256 = checksums.get(&(name.clone(), version.clone())).copied();
            Crate {
                name,
                version,
                license: package.license.clone(),
                sha256,
            }
        })
        .collect();
    crates.sort();
    Ok(crates)
}

/// The guest's own crates and everything that is linked into them; what only builds or tests it is
/// left out.
fn reachable(metadata: &Metadata) -> Vec<&PackageId> {
    let Some(resolve) = &metadata.resolve else {
        return Vec::new();
    };
    let mut found: Vec<&PackageId> = metadata
        .packages
        .iter()
        .filter(|package| GUEST_PACKAGES.contains(&package.name.as_str()))
        .map(|package| &package.id)
        .collect();
    let mut next = 0;
    while let Some(id) = found.get(next).copied() {
        next += 1;
        for node in resolve.nodes.iter().filter(|node| &node.id == id) {
            for dependency in &node.deps {
                let linked = dependency
                    .dep_kinds
                    .iter()
                    .any(|kind| kind.kind == DependencyKind::Normal);
                if linked && !found.contains(&&dependency.pkg) {
                    found.push(&dependency.pkg);
                }
            }
        }
    }
    found
}

fn checksums(workspace: &Workspace) -> Result<BTreeMap<(String, String), Sha256Hex>> {
    let file = workspace.root().join("Cargo.lock");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let lock: CargoLock =
        toml::from_str(&text).with_context(|| format!("{} is broken", file.display()))?;
    Ok(lock
        .package
        .into_iter()
        .filter_map(|package| Some(((package.name, package.version), package.checksum?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_of_each_of_the_guests_programs_are_listed_and_those_of_the_host_are_not() {
        let workspace = Workspace::find().unwrap();
        let listed = crates(&workspace).unwrap();
        let names: Vec<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
        // The seed reader's, the network's, and all programs' own.
        for linked in GUEST_PACKAGES
            .iter()
            .chain(&["saphyr-parser", "smoltcp", "rustix"])
        {
            assert!(names.contains(linked), "{linked} is not in {names:?}");
        }
        for host in ["noonmark-image", "xtask", "proptest"] {
            assert!(!names.contains(&host), "{host}");
        }
    }
}
