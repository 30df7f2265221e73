//! Seed disks, made by the command that a user would call.

use std::fs;
use std::path::{Path, PathBuf};

use noonmark_tests::xtask;
use tempfile::TempDir;

use crate::tool::{self, BLKID, FSCK_FAT, ISOINFO, MCOPY, MDIR, MLABEL};

const USER_DATA: &str = "#cloud-config\nhostname: sundial\n";
const META_DATA: &str = "instance-id: one\n";

/// Makes a seed disk in this folder.
fn seed(folder: &Path, user_data: &str) -> PathBuf {
    seed_of(folder, user_data, "fat")
}

/// The same, with this file system.
fn seed_of(folder: &Path, user_data: &str, format: &str) -> PathBuf {
    let [user, meta, disk] = ["user-data", "meta-data", "seed.img"].map(|name| folder.join(name));
    fs::write(&user, user_data).expect("a writable folder");
    fs::write(&meta, META_DATA).expect("a writable folder");
    let output = xtask()
        .arg("seed")
        .arg("--user-data")
        .arg(user)
        .arg("--meta-data")
        .arg(meta)
        .args(["--format", format])
        .arg("-o")
        .arg(&disk)
        .output()
        .expect("cargo xtask runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    disk
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn the_same_input_gives_the_same_seed_disk() {
    let [one, two, other] = [folder(), folder(), folder()];
    let read = |folder: &TempDir, text| fs::read(seed(folder.path(), text)).expect("a seed disk");
    let first = read(&one, USER_DATA);
    assert!(
        first == read(&two, USER_DATA),
        "two folders, two seed disks"
    );
    let changed = USER_DATA.replace("sundial", "sundiam");
    assert!(first != read(&other, &changed), "a change was not written");
}

#[test]
fn fsck_finds_no_problem_with_a_seed_disk() {
    if !tool::all_here("fsck_finds_no_problem_with_a_seed_disk", &[FSCK_FAT]) {
        return;
    }
    let folder = folder();
    let disk = seed(folder.path(), USER_DATA);
    FSCK_FAT.told(["-n".as_ref(), disk.as_os_str()]);
}

#[test]
fn mtools_finds_a_seed_disks_label_and_files() {
    let test = "mtools_finds_a_seed_disks_label_and_files";
    if !tool::all_here(test, &[MLABEL, MDIR, MCOPY]) {
        return;
    }
    let folder = folder();
    let disk = seed(folder.path(), USER_DATA).display().to_string();
    let label = MLABEL.told(["-s", "-i", &disk, "::"]);
    assert_eq!(label.trim(), "Volume label is CIDATA");
    let listed = MDIR.told(["-b", "-i", &disk, "::"]);
    let files: Vec<&str> = listed.lines().collect();
    assert_eq!(files, ["::/meta-data", "::/user-data"]);
    for (name, content) in [("user-data", USER_DATA), ("meta-data", META_DATA)] {
        let file = format!("::/{name}");
        assert_eq!(MCOPY.told(["-i", &disk, &file, "-"]), content);
    }
}

#[test]
fn isoinfo_finds_a_seed_disks_label_and_files() {
    let test = "isoinfo_finds_a_seed_disks_label_and_files";
    if !tool::all_here(test, &[ISOINFO, BLKID]) {
        return;
    }
    let folder = folder();
    let disk = seed_of(folder.path(), USER_DATA, "iso")
        .display()
        .to_string();
    let label = BLKID.told(["-p", "-o", "value", "-s", "LABEL", &disk]);
    assert_eq!(label.trim(), "CIDATA");
    let kind = BLKID.told(["-p", "-o", "value", "-s", "TYPE", &disk]);
    assert_eq!(kind.trim(), "iso9660");
    for (names, way) in [
        (["/user-data", "/meta-data"], &["-J"][..]),
        (["/USER_DAT.;1", "/META_DAT.;1"], &[]),
    ] {
        let arguments = [way, &["-i", &disk]].concat();
        let listed = ISOINFO.told([&arguments[..], &["-f"]].concat());
        let mut files: Vec<&str> = listed.lines().collect();
        files.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(files, names);
        for (name, content) in names.into_iter().zip([USER_DATA, META_DATA]) {
            let taken = ISOINFO.told([&arguments[..], &["-x", name]].concat());
            assert_eq!(taken, content, "{name}");
        }
    }
}
