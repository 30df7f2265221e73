//! What the tests that cross crates share: the checkout, its command line, images built by it, and
//! the list of what was not run.
//!
//! The tests themselves, by what they need:
//!
//! - `tests/cli`: what the command line says to wrong input; nothing is built or booted.
//! - `tests/disk`: an image and seed disks are built, and read by programs of others: partitioners,
//!   file system checkers, binutils, cpio.
//! - `tests/vm`: guests are booted, one after the other, on each QEMU that this machine offers.
//!   `trial` lists all of these tests, `platform` finds the QEMUs and boots the guests.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The variable that names the file to which [`not_run`] appends.
pub const NOT_RUN_FILE: &str = "NOONMARK_NOT_RUN";

/// The variable by which `cargo xtask test` names its own program.
pub const XTASK_PROGRAM: &str = "NOONMARK_XTASK";

/// The variable by which `cargo xtask test` names the folder with chronyd and its libraries.
pub const CHRONY: &str = "NOONMARK_CHRONY";

/// The variable by which `cargo xtask test` names the folder with Debian's cloud-init and its modules.
pub const CLOUD_INIT: &str = "NOONMARK_CLOUD_INIT";

/// The workspace's root folder.
#[must_use]
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests' folder has a parent")
        .into()
}

/// `cargo xtask`, as a user would call it in the checkout.
#[must_use]
pub fn xtask() -> Command {
    let mut command = match std::env::var_os(XTASK_PROGRAM) {
        Some(program) => Command::new(program),
        None => {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["run", "--locked", "--quiet", "--package", "xtask", "--"]);
            cargo
        }
    };
    command.current_dir(workspace_root());
    command
}

/// Builds an image into `folder` by `cargo xtask image` with further arguments.
///
/// # Errors
/// Where it fails; the error has what it said.
pub fn build_image(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = xtask();
    command.args(["image", "--out"]).arg(folder).args(arguments);
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The folder, which is there, for what the tests of this name make and keep from run to run.
///
/// # Errors
/// Where it can't be made.
pub fn test_folder(name: &str) -> Result<PathBuf> {
    let folder = workspace_root().join("target/noonmark/tests").join(name);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Builds the image of a guest.toml with this text in the [`test_folder`] of this name, and gives the
/// folder of its artifacts.
///
/// # Errors
/// Where the text can't be written, and as [`build_image`].
pub fn build_spec(name: &str, text: &str) -> Result<PathBuf> {
    let folder = test_folder(name)?;
    let spec = folder.join("guest.toml");
    fs::write(&spec, text).with_context(|| spec.display().to_string())?;
    let image = folder.join("image");
    build_image(&image, &["--spec", &spec.to_string_lossy()])?;
    Ok(image)
}

/// The start of a guest.toml whose services run `/trouble`, which is `noonmark-trouble`; its other
/// tables follow.
///
/// # Errors
/// As [`guest_program`].
pub fn spec_with_trouble() -> Result<String> {
    let program = guest_program("noonmark-trouble")?.display().to_string();
    Ok(format!(
        "[[file]]\npath = \"/trouble\"\nsource = {program:?}\nmode = 0o755\n"
    ))
}

/// Debian's chronyd: from its package as `cargo xtask test` unpacks it, else as it is installed.
///
/// # Errors
/// Neither is there; how to get it.
pub fn chronyd() -> Result<Command> {
    if let Some(folder) = std::env::var_os(CHRONY).map(PathBuf::from)
        && folder.join("usr/sbin/chronyd").is_file()
    {
        let mut command = Command::new(folder.join("lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(folder.join("lib/x86_64-linux-gnu"));
        command.arg(folder.join("usr/sbin/chronyd"));
        return Ok(command);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join("chronyd"))
        .find(|path| path.is_file())
        .map(Command::new)
        .context(
            "needs chronyd: cargo xtask test fetches it; else install it with: apt-get install chrony",
        )
}

/// A program of the guest that every image's build compiles, whether or not an image has it.
///
/// # Errors
/// Where cargo can't say where it builds, or no image has been built there.
pub fn guest_program(name: &str) -> Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => std::path::absolute(folder)?,
        None => workspace_root().join("target"),
    };
    let path = target
        .join("noonmark/cargo/x86_64-unknown-linux-musl/guest")
        .join(name);
    ensure!(
        path.is_file(),
        "no {}: build an image first, with the same CARGO_TARGET_DIR",
        path.display()
    );
    Ok(path)
}

/// Says that a test was not run, and why: to the person who watches, and to `cargo xtask test`,
/// whose summary lists it.
///
/// # Errors
/// Where the list can't be written.
pub fn not_run(test: &str, reason: &str) -> Result<()> {
    println!("not run: {test}: {reason}");
    let Some(path) = std::env::var_os(NOT_RUN_FILE) else {
        return Ok(());
    };
    let line = serde_json::json!({ "test": test, "reason": reason });
    // In one write, so that the lines of tests that run at once don't mix.
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
