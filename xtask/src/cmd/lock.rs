//! `lock`: pins the newest packages that an image can be made of.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use noonmark_image::lock::{Lock, LockedPackage};
use noonmark_image::output;
use noonmark_image::spec::{KernelSource, Spec};

use crate::build::{kernel, packages, stub};
use crate::cmd::options::SpecFile;
use crate::host::lock;
use crate::workspace::Workspace;

/// Writes guest.lock: the newest kernel and EFI stub of the archive, with their hashes.
///
/// A build takes the packages of the lock as long as the archive has them; `image --locked` takes
/// no others.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask lock && cargo xtask image --locked")]
pub struct LockCommand {
    #[command(flatten)]
    spec: SpecFile,
}

impl LockCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let _lock = lock::acquire(workspace)?;
        let spec_file = self.spec.path(workspace);
        let text = fs::read_to_string(&spec_file)
            .with_context(|| format!("cannot read {}", spec_file.display()))?;
        let spec = Spec::parse(&text, &spec_file)?;
        let file = packages::lock_file(&spec_file);
        // A lock that can't be read is what this command is to replace.
        let before = fs::read_to_string(&file)
            .ok()
            .and_then(|text| Lock::parse(&text, &file).ok())
            .unwrap_or_default();
        let mut newest = packages::update(workspace, stub::WANTED)?;
        if let KernelSource::Package { name, suite } = &spec.kernel.source {
            let wanted = kernel::wanted(workspace, name, suite.as_deref())?;
            newest.extend(packages::update(workspace, wanted)?);
        }
        let after = Lock::new(newest);
        output::write_file(&file, after.to_toml().as_bytes())?;
        let changes = changes(&before, &after);
        println!(
            "{}: {} packages, {}",
            Workspace::short(&file).display(),
            after.packages.len(),
            if changes.is_empty() {
                "as before"
            } else {
                "changed"
            }
        );
        for change in changes {
            println!("  {change}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A line for each package that came, went or changed.
fn changes(before: &Lock, after: &Lock) -> Vec<String> {
    let versions = |lock: &Lock| -> BTreeMap<String, String> {
        lock.packages
            .iter()
            .map(|LockedPackage { id, .. }| {
                let hash = &id.sha256.to_string()[..12];
                (id.package.clone(), format!("{} ({hash})", id.version))
            })
            .collect()
    };
    let (before, after) = (versions(before), versions(after));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| match (before.get(name), after.get(name)) {
            (Some(old), Some(new)) if old == new => None,
            (Some(old), Some(new)) => Some(format!("{name}: {old} -> {new}")),
            (Some(old), None) => Some(format!("{name}: {old} left out")),
            (None, Some(new)) => Some(format!("{name}: {new} taken in")),
            (None, None) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use noonmark_image::deb::PackageId;
    use noonmark_image::hash::Sha256Hex;
    use noonmark_image::lock::Role;

    use super::*;

    fn lock(packages: &[(&str, &str)]) -> Lock {
        let packages = packages.iter().map(|(name, version)| LockedPackage {
            role: Role::Kernel,
            requested: "linux".to_owned(),
            suite: None,
            id: PackageId {
                package: (*name).to_owned(),
                version: (*version).to_owned(),
                architecture: "amd64".to_owned(),
                sha256: Sha256Hex([0xab; 32]),
                size: 1,
            },
        });
        Lock::new(packages.collect())
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = lock(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = lock(&[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(
            changes(&before, &after),
            [
                "b: 1 (abababababab) -> 2 (abababababab)",
                "c: 1 (abababababab) left out",
                "d: 1 (abababababab) taken in",
            ]
        );
        assert_eq!(changes(&after, &after), [] as [&str; 0]);
    }
}
