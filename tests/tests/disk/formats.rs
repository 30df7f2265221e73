//! The disk in the formats of hypervisors and clouds, read by QEMU's and GNU's programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use noonmark_image::artifact::DISK;
use noonmark_image::formats::DiskFormat;
use noonmark_image::libvirt;
use noonmark_tests::{build_image, test_folder};

use crate::tool::{self, QEMU_IMG, SGDISK, SKOPEO, TAR, UMOCI, VIRT_XML_VALIDATE, XMLLINT};

/// The base image with its disk in every format, built once.
fn image() -> &'static Path {
    static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = test_folder("formats").expect("a writable checkout");
        let formats = ["--format", "raw,qcow2,vmdk,vhd,vdi,tar.gz"];
        let also = ["--containerdisk", "--libvirt"];
        build_image(&folder, &[&formats[..], &also[..]].concat()).expect("the base image");
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

#[test]
fn libvirt_takes_the_domain() {
    let test = "libvirt_takes_the_domain";
    if !tool::all_here(test, &[VIRT_XML_VALIDATE, XMLLINT]) {
        return;
    }
    let domain = image().join(libvirt::FILE_NAME);
    VIRT_XML_VALIDATE.told([domain.as_os_str(), "domain".as_ref()]);
    let text = fs::read_to_string(&domain).expect("a domain");
    let disk = image().join(DISK);
    assert!(
        text.contains(&format!("file='{}'", disk.display())),
        "{text}"
    );
    // A document that is none is told, so the check can fail.
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("domain.xml");
    fs::write(&broken, text.replace("<vcpu>", "<vcpu><vcpu/>")).expect("a file");
    let output = VIRT_XML_VALIDATE.run([broken.as_os_str(), "domain".as_ref()]);
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn a_container_image_has_the_disk_as_kubevirt_looks_for_it() {
    let test = "a_container_image_has_the_disk_as_kubevirt_looks_for_it";
    if !tool::all_here(test, &[SKOPEO, UMOCI, TAR, QEMU_IMG]) {
        return;
    }
    let archive = image().join(DiskFormat::ContainerDisk.file_name());
    let folder = tempfile::tempdir().expect("a folder");
    let layout = folder.path().join("layout");
    let to = |path: &Path, tag: &str| format!("oci:{}:{tag}", path.display());
    // It checks every digest and size on its way.
    SKOPEO.told([
        "copy".to_owned(),
        "--insecure-policy".to_owned(),
        format!("oci-archive:{}", archive.display()),
        to(&layout, "noonmark"),
    ]);
    let told = SKOPEO.told(["inspect".to_owned(), to(&layout, "noonmark")]);
    assert!(told.contains("\"Architecture\": \"amd64\""), "{told}");
    let unpacked = folder.path().join("unpacked");
    UMOCI.told([
        "unpack".as_ref(),
        "--rootless".as_ref(),
        "--image".as_ref(),
        format!("{}:noonmark", layout.display()).as_ref(),
        unpacked.as_os_str(),
    ]);
    let disk = unpacked.join("rootfs/disk/disk.qcow2");
    let compare = ["compare", "-f", "qcow2", "-F", "raw"];
    let told = QEMU_IMG.text(qemu_img(&compare, &[&disk, &image().join(DISK)]));
    assert!(told.contains("identical"), "{told}");
    // The layer's own archive tells the owner; unpacked without rights, files are the caller's.
    let blobs = layout.join("blobs/sha256");
    let listings = fs::read_dir(&blobs).expect("blobs").map(|blob| {
        let blob = blob.expect("a blob").path();
        String::from_utf8_lossy(
            &TAR.run(["--numeric-owner", "-tvzf", &blob.display().to_string()])
                .stdout,
        )
        .into_owned()
    });
    let layer: String = listings.collect();
    let owned = |name: &str| {
        layer
            .lines()
            .any(|line| line.contains("107/107") && line.ends_with(name))
    };
    assert!(owned(" disk/") && owned(" disk/disk.qcow2"), "{layer}");
}
