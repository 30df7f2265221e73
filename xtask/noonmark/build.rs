//! Compiles the guest's programs of this checkout, which become part of `noonmark`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use noonmark_builder::installable;
use noonmark_builder::prerequisites::{GUEST_TARGET, Prerequisite, Presence};
use noonmark_builder::workspace::Workspace;

/// What the guest's programs are made of, in the checkout.
const SOURCES: [&str; 5] = [
    "Cargo.lock",
    "Cargo.toml",
    "init",
    "rust-toolchain.toml",
    "sync",
];

fn main() -> Result<()> {
    let out = env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .context("no OUT_DIR")?;
    let workspace = Workspace::find()?;
    for source in SOURCES {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.root().join(source).display()
        );
    }
    // It names the commit.
    if let Some(log) = log_of_head(workspace.root()) {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    // Clippy reads the code and makes no program.
    println!("cargo::rerun-if-env-changed=RUSTC_WORKSPACE_WRAPPER");
    let wrapper = env::var_os("RUSTC_WORKSPACE_WRAPPER").unwrap_or_default();
    let bundle = if Path::new(&wrapper).ends_with("clippy-driver") {
        Vec::new()
    } else {
        // A build installs nothing by itself.
        if let Presence::Missing(way) = Prerequisite::GuestTarget.find(&workspace)? {
            bail!("Rust's library for {GUEST_TARGET} is missing; run `{way}`, then try again");
        }
        installable::make(&workspace)?
    };
    let file = out.join("bundle");
    fs::write(&file, bundle).with_context(|| format!("cannot write {}", file.display()))
}

/// What git writes to whenever another commit is checked out; none where this is no clone.
fn log_of_head(root: &Path) -> Option<PathBuf> {
    let git = [
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "logs/HEAD",
    ];
    let told = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(git)
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(told.stdout).ok()?.trim());
    path.is_file().then_some(path)
}
