//! The disk in the formats of hypervisors and clouds, read by QEMU's and GNU's programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use noonmark_image::artifact::DISK;
use noonmark_tests::{build_image, test_folder};

use crate::tool::{self, QEMU_IMG, SGDISK, TAR};

/// The base image with its disk in every format, built once.
fn image() -> &'static Path {
    static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = test_folder("formats").expect("a writable checkout");
        let formats = ["--format", "raw,qcow2,vmdk,vhd,vdi,tar.gz"];
        build_image(&folder, &formats).expect("the base image");
        folder
    });
    &IMAGE
}

fn qemu_img(arguments: &[&str], files: &[&Path]) -> std::process::Output {
    let files = files.iter().map(|file| file.as_os_str());
    QEMU_IMG.run(arguments.iter().map(AsRef::as_ref).chain(files))
}

#[test]
fn qemu_reads_the_same_disk_in_every_format() {
    let test = "qemu_reads_the_same_disk_in_every_format";
    if !tool::all_here(test, &[QEMU_IMG]) {
        return;
    }
    let raw = image().join(DISK);
    let folder = tempfile::tempdir().expect("a folder");
    for (format, name) in [
        ("qcow2", "disk.qcow2"),
        ("vmdk", "disk.vmdk"),
        ("vpc", "disk.vhd"),
        ("vdi", "disk.vdi"),
    ] {
        let disk = image().join(name);
        let compare = ["compare", "-f", format, "-F", "raw"];
        let told = QEMU_IMG.text(qemu_img(&compare, &[&disk, &raw]));
        assert!(told.contains("identical"), "{name}: {told}");
        // QEMU knows no way to check a VHD of fixed size.
        if format != "vpc" {
            let told = QEMU_IMG.text(qemu_img(&["check", "-f", format], &[&disk]));
            assert!(told.contains("No errors"), "{name}: {told}");
        }
        let back = folder.path().join(name);
        QEMU_IMG.text(qemu_img(
            &["convert", "-f", format, "-O", "raw"],
            &[&disk, &back],
        ));
        assert!(
            fs::read(&back).expect("a disk") == fs::read(&raw).expect("a disk"),
            "{name}"
        );
    }
}

#[test]
fn a_spoilt_disk_is_another_to_qemu() {
    let test = "a_spoilt_disk_is_another_to_qemu";
    if !tool::all_here(test, &[QEMU_IMG]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let spoilt = folder.path().join("disk.qcow2");
    let mut bytes = fs::read(image().join("disk.qcow2")).expect("a disk");
    *bytes.last_mut().expect("a byte") ^= 0xff;
    fs::write(&spoilt, bytes).expect("a writable folder");
    let compare = ["compare", "-f", "qcow2", "-F", "raw"];
    let output = qemu_img(&compare, &[&spoilt, &image().join(DISK)]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn tar_unpacks_a_disk_of_one_gib_whose_table_is_whole() {
    let test = "tar_unpacks_a_disk_of_one_gib_whose_table_is_whole";
    if !tool::all_here(test, &[TAR, SGDISK]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let archive = image().join("disk.tar.gz");
    let listed = TAR.told(["-tzf".as_ref(), archive.as_os_str()]);
    assert_eq!(listed.trim(), "disk.raw");
    let place = ["-C".as_ref(), folder.path().as_os_str()];
    let unpack = ["-xzf".as_ref(), archive.as_os_str()];
    TAR.told(unpack.into_iter().chain(place));
    let disk = folder.path().join("disk.raw");
    assert_eq!(fs::metadata(&disk).expect("the disk").len(), 1 << 30);
    let told = SGDISK.told(["--verify".as_ref(), disk.as_os_str()]);
    assert!(told.contains("No problems found"), "{told}");
    // The partition is the same, table and all but its end.
    let raw = fs::read(image().join(DISK)).expect("a disk");
    let grown = fs::read(&disk).expect("the disk");
    let partition = 1 << 20..raw.len() - (1 << 20);
    assert!(grown[partition.clone()] == raw[partition]);
}
