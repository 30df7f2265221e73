//! Keeps what ARCHITECTURE.md promises about the source tree; nothing but tests, which the `tidy` step of
//! `cargo xtask test` runs. A package of its own, so that it can be checked before anything else compiles.

#![cfg(test)]

mod circles;
mod fuzz;
mod source;
mod structure;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{MetadataCommand, Package};

/// The workspace's root folder.
fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("this package's folder lies two below the root")
        .into()
}

/// The workspace's packages, without what they depend on.
fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace_root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--locked".into(), "--offline".into()])
        .exec();
    metadata.expect("cargo metadata").packages
}

/// A text file of the tree.
struct File {
    /// Path from the workspace's root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// All text files of the tree, without build output, the lock file and git's own folder.
fn files() -> Vec<File> {
    let root = workspace_root();
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(
        found.len() > 20,
        "the tree was not found under {}",
        root.display()
    );
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path: PathBuf = entry.expect("a readable entry").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                collect(root, &path, found);
            }
        } else if !["Cargo.lock", ".git"].contains(&name.as_str())
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root).expect("under the root");
            found.push(File {
                path: path.to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
}

/// Fails with all complaints at once, so that one run shows everything that needs mending.
fn report(claim: &str, complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{claim}:\n  {}",
        complaints.join("\n  ")
    );
}
