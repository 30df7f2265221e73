//! `lock`: pins the newest packages that an image can be made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use noonmark_builder::distribution::Distribution;
use noonmark_builder::kernel::UBUNTU_KERNEL_PACKAGE;
use noonmark_builder::packages::Request;
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::workspace::Workspace;
use noonmark_builder::{content, kernel, kvm_host, packages, stub};
use noonmark_image::lock::{Lock, LockedPackage, Role};
use noonmark_image::output;
use noonmark_image::spec::{DEFAULT_KERNEL_PACKAGE, Description, KernelSource, Spec};

use crate::options::SpecFile;

/// Writes guest.lock: the newest kernel and EFI stub of the archive, and the newest kernel for an emulated
/// KVM host, with their hashes.
///
/// A build takes the packages of the lock as long as the archive has them; `image --locked` takes
/// no others. A lock can hold the packages of several releases; a machine goes by those of its own,
/// and those of others stay as they are.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: cargo xtask lock && cargo xtask image --locked\n          \
                        cargo xtask lock --release bookworm --release trixie"
)]
pub struct LockCommand {
    #[command(flatten)]
    spec: SpecFile,
    /// For machines of which release of this distribution; may be given several times [default:
    /// this machine's own].
    #[arg(long, value_name = "CODENAME")]
    release: Vec<String>,
}

impl LockCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let _lock = StateLock::acquire(workspace)?;
        let spec_file = self.spec.path(workspace);
        let spec = Spec::of(&Description::read(&spec_file)?)?;
        let file = packages::lock_file(&spec_file);
        // A guest.lock that can't be read is replaced like any other.
        let before = fs::read_to_string(&file)
            .ok()
            .and_then(|text| Lock::parse(&text, &file).ok())
            .unwrap_or_default();
        let mut newest = Vec::new();
        for release in self.releases()? {
            newest.extend(of_release(workspace, &spec, release.as_deref())?);
        }
        let after = Lock::new(merged(&before, newest, &spec));
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

    /// The releases to pin for; none stands for the machine's own.
    fn releases(&self) -> Result<Vec<Option<String>>> {
        if self.release.is_empty() {
            return Ok(vec![None]);
        }
        let own = Distribution::of_machine()?.codename;
        Ok(self
            .release
            .iter()
            .map(|release| Some(release.clone()).filter(|release| *release != own))
            .collect())
    }
}

/// The newest packages for machines of one release.
fn of_release(
    workspace: &Workspace,
    spec: &Spec,
    release: Option<&str>,
) -> Result<Vec<LockedPackage>> {
    let stub = Request {
        suite: release,
        ..stub::REQUEST
    };
    let mut newest = packages::update(workspace, stub)?;
    newest.extend(packages::update(workspace, kvm_host::request(release))?);
    if let KernelSource::Package { name, suite } = &spec.kernel.source {
        let request = kernel::request(workspace, name, suite.as_deref().or(release))?;
        newest.extend(packages::update(workspace, request)?);
    }
    for wanted in spec.content.wanted_packages() {
        let request = content::request(wanted);
        let suite = request.suite.or(release);
        newest.extend(packages::update(workspace, Request { suite, ..request })?);
    }
    Ok(newest)
}

/// The new packages, and of the old ones those that are for other releases and that the spec still
/// asks for.
fn merged(before: &Lock, newest: Vec<LockedPackage>, spec: &Spec) -> Vec<LockedPackage> {
    let wanted = spec.content.wanted_packages();
    let still_wanted = |package: &LockedPackage| match (package.role, &spec.kernel.source) {
        (Role::Stub | Role::Host, _) => true,
        // A kernel whose suite guest.toml names is the same on every release.
        (Role::Kernel, KernelSource::Package { name, suite: None }) => {
            package.requested == *name
                || (name == DEFAULT_KERNEL_PACKAGE && package.requested == UBUNTU_KERNEL_PACKAGE)
        }
        (Role::Content, _) => wanted
            .iter()
            .any(|wanted| wanted.suite.is_none() && package.requested == wanted.name),
        (Role::Kernel | Role::Peer, _) => false,
    };
    let renewed: BTreeSet<(Role, String)> = newest
        .iter()
        .map(|package| (package.role, package.suite.clone()))
        .collect();
    let kept = before
        .packages
        .iter()
        .filter(|package| !renewed.contains(&(package.role, package.suite.clone())))
        .filter(|package| still_wanted(package))
        .cloned();
    let mut packages: Vec<LockedPackage> = kept.collect();
    packages.extend(newest);
    packages
}

/// A line for each package that came, went or changed.
fn changes(before: &Lock, after: &Lock) -> Vec<String> {
    let versions = |lock: &Lock| -> BTreeMap<String, String> {
        lock.packages
            .iter()
            .map(|LockedPackage { id, suite, .. }| {
                let hash = &id.sha256.to_string()[..12];
                (
                    format!("{suite}: {}", id.package),
                    format!("{} ({hash})", id.version),
                )
            })
            .collect()
    };
    let (before, after) = (versions(before), versions(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| match (before.get(name), after.get(name)) {
            (Some(old), Some(new)) if old == new => None,
            (Some(old), Some(new)) => Some(format!("{name} {old} -> {new}")),
            (Some(old), None) => Some(format!("{name} {old} left out")),
            (None, Some(new)) => Some(format!("{name} {new} taken in")),
            (None, None) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use noonmark_image::deb::PackageId;
    use noonmark_image::hash::Sha256Hex;

    use super::*;

    fn package(role: Role, requested: &str, suite: &str, version: &str) -> LockedPackage {
        LockedPackage {
            role,
            requested: requested.to_owned(),
            suite: suite.to_owned(),
            id: PackageId {
                package: requested.to_owned(),
                version: version.to_owned(),
                architecture: "amd64".to_owned(),
                sha256: Sha256Hex([0xab; 32]),
                size: 1,
            },
        }
    }

    fn lock(packages: &[(&str, &str)]) -> Lock {
        let package = |(name, version): &(&str, &str)| package(Role::Kernel, name, "d s", version);
        Lock::new(packages.iter().map(package).collect())
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = lock(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = lock(&[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(
            changes(&before, &after),
            [
                "d s: b 1 (abababababab) -> 2 (abababababab)",
                "d s: c 1 (abababababab) left out",
                "d s: d 1 (abababababab) taken in",
            ]
        );
        assert_eq!(changes(&after, &after), [] as [&str; 0]);
    }

    #[test]
    fn other_releases_keep_their_packages_as_long_as_the_spec_asks_for_them() {
        let kernel = |suite, version| package(Role::Kernel, DEFAULT_KERNEL_PACKAGE, suite, version);
        let stub = |suite, version| package(Role::Stub, "systemd-boot-efi", suite, version);
        let before = Lock::new(vec![
            kernel("debian bookworm", "1"),
            stub("debian bookworm", "1"),
            kernel("debian trixie", "1"),
            stub("debian trixie", "1"),
            package(Role::Content, "busybox", "debian bookworm", "1"),
        ]);
        let after = |newest, spec: &Spec| -> Vec<(Role, String, String)> {
            let mut merged: Vec<_> = merged(&before, newest, spec)
                .into_iter()
                .map(|package| (package.role, package.suite, package.id.version))
                .collect();
            merged.sort();
            merged
        };
        let told = |role, suite: &str, version: &str| (role, suite.to_owned(), version.to_owned());
        let spec = |text: &str| Spec::parse(text, Path::new("guest.toml")).unwrap();
        let newest = vec![kernel("debian trixie", "2"), stub("debian trixie", "2")];
        assert_eq!(
            after(newest, &spec("[[package]]\nname = \"busybox\"\n")),
            [
                told(Role::Kernel, "debian bookworm", "1"),
                told(Role::Kernel, "debian trixie", "2"),
                told(Role::Stub, "debian bookworm", "1"),
                told(Role::Stub, "debian trixie", "2"),
                told(Role::Content, "debian bookworm", "1"),
            ]
        );
        let sid = spec("[kernel]\nsuite = \"sid\"\n");
        assert_eq!(
            after(vec![kernel("debian sid", "3")], &sid),
            [
                told(Role::Kernel, "debian sid", "3"),
                told(Role::Stub, "debian bookworm", "1"),
                told(Role::Stub, "debian trixie", "1"),
            ]
        );
    }
}
