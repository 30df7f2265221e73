//! Claims about how the crates hang together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::DependencyKind;

use crate::{packages, report, workspace_root};

/// What each crate may use of ours, in any kind of dependency.
const MAY_USE: &[(&str, &[&str])] = &[
    ("noonmark-contract", &[]),
    ("noonmark-sync", &["noonmark-contract"]),
    // The guest.
    ("noonmark-label", &[]),
    ("noonmark-linux", &["noonmark-contract"]),
    (
        "noonmark-init",
        &[
            "noonmark-contract",
            "noonmark-label",
            "noonmark-linux",
            "noonmark-sync",
        ],
    ),
    // `noonmark-linux` is for the fuzz targets alone.
    (
        "noonmark-seed",
        &["noonmark-contract", "noonmark-label", "noonmark-linux"],
    ),
    ("noonmark-net", &["noonmark-contract", "noonmark-linux"]),
    (
        "noonmark-ntp",
        &["noonmark-contract", "noonmark-linux", "noonmark-sync"],
    ),
    ("noonmark-nts", &["noonmark-contract", "noonmark-ntp"]),
    ("noonmark-agent", &["noonmark-contract", "noonmark-linux"]),
    ("noonmark-run", &["noonmark-contract", "noonmark-linux"]),
    ("noonmark-testbed", &["noonmark-contract", "noonmark-linux"]),
    // The example appliances: what a user of noonmark would write.
    ("clock-server", &[]),
    ("time-bounds", &[]),
    // The host.
    ("noonmark-image", &["noonmark-contract"]),
    ("noonmark-qemu", &["noonmark-contract"]),
    // `noonmark-linux`, because the emulated host, whose clock the lab moves and in which xtask takes
    // orders, is a guest of ours.
    (
        "noonmark-lab",
        &["noonmark-contract", "noonmark-linux", "noonmark-qemu"],
    ),
    (
        "noonmark-builder",
        &["noonmark-contract", "noonmark-image", "noonmark-qemu"],
    ),
    (
        "xtask",
        &[
            "noonmark-builder",
            "noonmark-contract",
            "noonmark-image",
            "noonmark-lab",
            "noonmark-linux",
            "noonmark-qemu",
            // What a guest makes of a seed is told by its own reader.
            "noonmark-seed",
        ],
    ),
    // The installed program is xtask with the guest's programs in it.
    ("noonmark", &["noonmark-builder", "noonmark-image", "xtask"]),
    ("noonmark-tidy", &[]),
    (
        "noonmark-tests",
        &[
            "noonmark-contract",
            "noonmark-image",
            "noonmark-lab",
            "noonmark-qemu",
            // What a guest makes of a seed is compared with what cloud-init makes of it.
            "noonmark-seed",
        ],
    ),
];

/// The top level is fixed: six folders, in which crates may nest, and the usual files.
const TOP_LEVEL: &[&str] = &[
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "guest.lock",
    "guest.toml",
    "image",
    "init",
    "qemu",
    "rust-toolchain.toml",
    "sync",
    "target",
    "tests",
    "xtask",
];

#[test]
fn crates_use_only_what_they_may() {
    let packages = packages();
    let ours: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut complaints = Vec::new();
    for package in &packages {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            complaints.push(format!("{} is not in the list of crates", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let is_ours = ours.contains(dependency.name.as_str());
            if is_ours && !allowed.contains(&dependency.name.as_str()) {
                complaints.push(format!("{} uses {}", package.name, dependency.name));
            }
            if dependency.kind == DependencyKind::Normal && !is_ours && dependency.path.is_some() {
                complaints.push(format!(
                    "{} uses a path outside: {}",
                    package.name, dependency.name
                ));
            }
        }
    }
    report(
        "ARCHITECTURE.md's table of crates does not hold",
        &complaints,
    );
    let there = packages.len();
    assert_eq!(there, MAY_USE.len(), "a crate of the list is gone");
}

#[test]
fn the_top_level_is_as_agreed() {
    let complaints: Vec<String> = fs::read_dir(workspace_root())
        .expect("a readable root")
        .map(|entry| {
            entry
                .expect("a readable entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    report("unexpected at the top level", &complaints);
}
