//! What `noonmark` does in a folder that knows nothing of the checkout; nothing is built or booted.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use noonmark_image::lock::Lock;
use noonmark_image::spec::Spec;

/// Runs `noonmark` as a user who has no cargo and no APT: nothing is in its path.
fn noonmark(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_noonmark"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", folder)
        .env("HOME", folder)
        .output()
        .expect("noonmark runs")
}

fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = noonmark(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("output in UTF-8")
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = noonmark(folder, arguments);
    let told = String::from_utf8(output.stderr).expect("a message in UTF-8");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
    assert!(told.starts_with("error: "), "{told}");
    assert!(!told.contains("cargo"), "{told}");
    told
}

#[test]
fn init_makes_a_project_that_can_be_read_and_touches_no_file_that_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::write(folder.join(".gitignore"), "mine\n").expect("a writable folder");
    succeeds(folder, &["init", "--service", "hello"]);

    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file of init's");
    let (spec, lock) = (read("guest.toml"), read("guest.lock"));
    for text in [&spec, &lock] {
        assert!(!text.contains("cargo xtask"), "{text}");
    }
    let parsed = Spec::parse(&spec, Path::new("guest.toml")).expect("a description");
    assert_eq!(parsed.services.len(), 1);
    assert!(
        !Lock::parse(&lock, Path::new("guest.lock"))
            .expect("a lock")
            .packages
            .is_empty()
    );
    assert_eq!(read(".gitignore"), "mine\n");

    let told = refused(folder, &["init"]);
    assert!(told.contains("guest.toml"), "{told}");
    assert_eq!(read("guest.toml"), spec);
}

#[test]
fn a_service_that_no_image_can_have_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = refused(folder.path(), &["init", "--service", "a/\"b"]);
    assert!(told.contains("--service a/\"b"), "{told}");
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0);
}

#[test]
fn outside_a_project_a_command_says_how_to_make_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = refused(folder.path(), &["image"]);
    let named = folder.path().canonicalize().expect("a folder");
    for part in [
        named.to_str().expect("UTF-8"),
        "guest.toml",
        "noonmark init",
    ] {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }
}

#[test]
fn a_command_in_a_folder_below_takes_the_projects_description_and_writes_below_the_project() {
    let folder = tempfile::tempdir().expect("a folder");
    let below = folder.path().join("src/deep");
    fs::create_dir_all(&below).expect("a writable folder");
    let text = "[kernel]\nimage = \"no-such-vmlinuz\"\nmodules = \"no-such-modules\"\n";
    fs::write(folder.path().join("guest.toml"), text).expect("a writable folder");
    let told = refused(&below, &["image"]);
    assert!(told.contains("no-such-vmlinuz"), "{told}");
    assert!(folder.path().join("target/noonmark").is_dir());
    assert!(!below.join("target").exists());
}

#[test]
fn the_version_names_the_commit_and_each_guest_program_with_its_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = succeeds(folder.path(), &["--version"]);
    for part in ["commit ", "noonmark-init ", "noonmark-seed ", "rustc "] {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }
    let words = || told.split_whitespace();
    let programs = words().filter(|word| word.starts_with("noonmark-")).count();
    let hashes = words().filter(|word| word.len() == 64).count();
    assert!(programs >= 7 && hashes == programs, "{told}");
}

#[test]
fn help_names_the_commands_as_they_are_called_here() {
    let folder = tempfile::tempdir().expect("a folder");
    for command in [
        "init", "recover", "bench", "report", "image", "run", "status", "seed", "lock",
    ] {
        let help = succeeds(folder.path(), &[command, "--help"]);
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(help.contains("noonmark "), "{command}: {help}");
        assert!(!help.contains("cargo xtask"), "{command}: {help}");
    }
}
