//! What a user is told whose input is wrong: one paragraph that names the thing, and no success.

mod report;
mod run;
mod seed;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use noonmark_tests::{not_run, workspace_root, xtask};

/// Runs `cargo xtask` and returns what it said on standard error, after checking that it failed.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    let told = String::from_utf8(output.stderr).expect("a message in UTF-8");
    assert!(!output.status.success(), "{arguments:?} succeeded: {told}");
    assert!(!told.contains("panicked"), "{arguments:?} panicked: {told}");
    told
}

fn run(arguments: &[&str]) -> Output {
    xtask()
        .args(arguments)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("cargo xtask runs")
}

/// A spec beside the checkout's lock, so that nobody is asked for newer packages.
fn spec(folder: &Path, text: &str) -> String {
    let lock = "guest.lock";
    fs::copy(workspace_root().join(lock), folder.join(lock)).expect("the checkout's lock");
    let path = folder.join("guest.toml");
    fs::write(&path, text).expect("a writable folder");
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = spec(folder.path(), "[clock]\nstep_us = 100\nwatch_mss = 20\n");
    let told = refused(&["image", "--spec", &spec]);
    for part in ["guest.toml", "3", "watch_mss", "watch_ms"] {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }
}

#[test]
fn a_missing_kernel_file_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[kernel]\nimage = \"no-such-vmlinuz\"\nmodules = \"no-such-modules\"\n";
    let told = refused(&["image", "--spec", &spec(folder.path(), text)]);
    assert!(told.contains("no-such-vmlinuz"), "{told}");
}

#[test]
fn a_missing_spec_is_named() {
    let told = refused(&["recover", "--spec", "no-such-guest.toml"]);
    assert!(told.contains("no-such-guest.toml"), "{told}");
}

#[test]
fn a_qemu_that_is_not_there_is_named() {
    let told = refused(&["recover", "--count", "1", "--qemu", "no/such/qemu"]);
    assert!(told.contains("no/such/qemu"), "{told}");
}

#[test]
fn an_unknown_fault_is_told_with_the_known_ones() {
    let told = refused(&["recover", "--fault", "wobble"]);
    assert!(told.contains("wobble") && told.contains("step:"), "{told}");
}

#[test]
fn an_unknown_peer_is_told_with_the_known_ones() {
    let told = refused(&["bench", "--peer", "ntpd"]);
    for part in ["ntpd", "chronyd-fast", "phc2sys"] {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }
    let told = refused(&["bench", "--deadline", "5m"]);
    assert!(told.contains("5m") && told.contains("60"), "{told}");
}

#[test]
fn a_port_that_is_no_socket_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("port");
    fs::write(&file, "").expect("a writable folder");
    let file = file.to_str().expect("a path in UTF-8");
    let told = refused(&["status", "--port", file]);
    assert!(told.contains(file) && told.contains("socket"), "{told}");
    let told = refused(&["status", "--port", "no/such/port"]);
    assert!(told.contains("no/such/port"), "{told}");
}

#[test]
fn a_module_that_the_kernel_lacks_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = refused(&[
        "image",
        "--spec",
        &spec(folder.path(), "[modules]\nload = [\"no_such_module\"]\n"),
    ]);
    assert!(told.contains("no_such_module"), "{told}");
}

#[test]
fn a_kernel_that_firmware_can_not_start_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[kernel]\nimage = \"no-stub\"\nmodules = \"modules\"\n\
                [clock]\nsources = [\"host\"]\n";
    let spec = spec(folder.path(), text);
    // A bzImage that says its release and is no PE program (Documentation/arch/x86/boot.rst).
    let mut kernel = vec![0; 0x1000];
    for (at, bytes) in [
        (0x202, b"HdrS".as_slice()),
        (0x206, &[0x0f, 0x02]),
        (0x20e, &[0, 0x3]),
        (0x236, &[1]),
        (0x500, b"6.1.0-9-test (builder) #1 SMP\0"),
    ] {
        kernel[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fs::write(folder.path().join("no-stub"), kernel).expect("a writable folder");
    let modules = folder.path().join("modules");
    fs::create_dir(&modules).expect("a writable folder");
    let builtin = "kernel/virtio_pci.ko\nkernel/virtio_console.ko\n";
    fs::write(modules.join("modules.builtin"), builtin).expect("a writable folder");
    let out = folder.path().join("out");
    let path = out.to_str().expect("a path in UTF-8");
    let told = refused(&["image", "--spec", &spec, "--out", path]);
    assert!(
        told.contains("no-stub") && told.contains("CONFIG_EFI_STUB"),
        "{told}"
    );
    assert!(!out.exists(), "something was written");
}

#[test]
fn a_pin_that_is_demanded_and_not_there_is_told_with_the_suite() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[kernel]\npackage = \"linux-image-rt-amd64\"\nsuite = \"another-suite\"\n";
    let told = refused(&["image", "--locked", "--spec", &spec(folder.path(), text)]);
    for part in ["guest.lock", "another-suite", "linux-image-rt-amd64"] {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_half_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mount) = Mount::small(folder.path()) else {
        let test = "a_full_disk_is_named_and_nothing_is_left_half_written";
        return not_run(test, "mounting a small tmpfs needs root").expect("a writable list");
    };
    let path = folder.path().to_str().expect("a path in UTF-8");
    let told = refused(&["image", "--out", path]);
    assert!(told.contains(path), "{told}");
    assert!(
        told.to_lowercase().contains("full") || told.contains("space"),
        "{told}"
    );
    let left: Vec<_> = fs::read_dir(folder.path())
        .expect("a readable folder")
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    drop(mount);
}

/// A file system of 64 KiB, gone when dropped.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn small(folder: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "noonmark-test"])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(folder))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // What can't be unmounted shows when the folder can't be removed.
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let help = String::from_utf8(run(&["--help"]).stdout).expect("help in UTF-8");
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 6, "few commands in: {help}");
    for command in commands {
        let help = String::from_utf8(run(&[command, "--help"]).stdout).expect("help in UTF-8");
        assert!(
            help.contains("cargo xtask"),
            "no example in {command} --help: {help}"
        );
    }
}
