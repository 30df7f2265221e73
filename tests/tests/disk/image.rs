//! The base image: its partition table, its file system, its boot program and its initrd.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use noonmark_image::artifact::{CMDLINE, DISK, INITRD, KERNEL, UKI};

use crate::base_image;
use crate::tool::{self, CPIO, FSCK_FAT, GZIP, MCOPY, MDIR, OBJCOPY, OBJDUMP, SGDISK};

/// Bytes in a sector of the disk.
const SECTOR_LEN: u64 = 512;

/// What marks an EFI system partition (UEFI specification, 5.3.3).
const ESP_TYPE: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Where the ESP is on the disk in bytes, by `sgdisk`.
fn esp(disk: &Path) -> Range<u64> {
    let told = SGDISK.told(["--info=1".as_ref(), disk.as_os_str()]);
    assert!(told.contains(ESP_TYPE), "no ESP: {told}");
    let sector = |name: &str| -> u64 {
        told.lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("no `{name}` in: {told}"))
    };
    let (first, last) = (sector("First sector: "), sector("Last sector: "));
    first * SECTOR_LEN..(last + 1) * SECTOR_LEN
}

/// A copy of the file with one byte changed.
fn spoilt(file: &Path, at: usize, folder: &Path) -> PathBuf {
    let mut bytes = read(file);
    bytes[at] ^= 0xff;
    let path = folder.join("spoilt");
    fs::write(&path, bytes).expect("a writable folder");
    path
}

#[test]
fn sgdisk_finds_no_problem_with_the_partition_table() {
    let test = "sgdisk_finds_no_problem_with_the_partition_table";
    if !tool::all_here(test, &[SGDISK]) {
        return;
    }
    let verdict = |disk: &Path| SGDISK.run(["--verify".as_ref(), disk.as_os_str()]);
    let disk = base_image().join(DISK);
    let told = SGDISK.text(verdict(&disk));
    assert!(told.contains("No problems found"), "{told}");
    let esp = esp(&disk);
    assert_eq!(esp.start % (1 << 20), 0, "the ESP is not aligned to 1 MiB");

    // The partition's name is in the entry that starts in the third sector, under a checksum.
    let folder = tempfile::tempdir().expect("a folder");
    let spoilt = verdict(&spoilt(&disk, 1024 + 56, folder.path()));
    let told = String::from_utf8_lossy(&spoilt.stdout).into_owned();
    assert!(!told.contains("No problems found"), "{told}");
}

#[test]
fn fsck_finds_no_problem_with_the_esp() {
    let test = "fsck_finds_no_problem_with_the_esp";
    if !tool::all_here(test, &[SGDISK, FSCK_FAT]) {
        return;
    }
    let disk = base_image().join(DISK);
    let Range { start, end } = esp(&disk);
    let folder = tempfile::tempdir().expect("a folder");
    let volume = folder.path().join("esp");
    fs::write(&volume, &read(&disk)[start as usize..end as usize]).expect("a writable folder");
    let verdict = |volume: &Path| FSCK_FAT.run(["-n".as_ref(), volume.as_os_str()]);
    FSCK_FAT.text(verdict(&volume));

    // The first cluster's entry in the first of the two tables, which starts in the second sector.
    let spoilt = verdict(&spoilt(&volume, 512 + 4, folder.path()));
    assert!(!spoilt.status.success(), "a broken volume passed");
}

#[test]
fn mtools_finds_the_boot_program_and_nothing_else() {
    let test = "mtools_finds_the_boot_program_and_nothing_else";
    if !tool::all_here(test, &[SGDISK, MDIR, MCOPY]) {
        return;
    }
    let disk = base_image().join(DISK);
    let volume = format!("{}@@{}", disk.display(), esp(&disk).start);
    let listed = MDIR.told(["-b", "-/", "-i", &volume, "::"]);
    let files: Vec<&str> = listed.lines().filter(|line| !line.ends_with('/')).collect();
    assert_eq!(files, ["::/EFI/BOOT/BOOTX64.EFI"]);
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy");
    let arguments = ["-i", &volume, "::/EFI/BOOT/BOOTX64.EFI"].map(AsRef::as_ref);
    MCOPY.text(MCOPY.run(arguments.into_iter().chain([copy.as_os_str()])));
    assert!(
        read(&copy) == read(&base_image().join(UKI)),
        "the boot program is not {UKI}"
    );
}

#[test]
fn binutils_finds_kernel_initrd_and_command_line_in_the_uki() {
    let test = "binutils_finds_kernel_initrd_and_command_line_in_the_uki";
    if !tool::all_here(test, &[OBJDUMP, OBJCOPY]) {
        return;
    }
    let image = base_image();
    let uki = image.join(UKI);
    let told = OBJDUMP.told(["-h".as_ref(), uki.as_os_str()]);
    assert!(told.contains("pei-x86-64"), "{told}");
    // A section's line starts with its number.
    let sections: Vec<&str> = told
        .lines()
        .map(|line| line.split_whitespace())
        .filter_map(|mut words| words.next()?.parse::<u32>().ok().and(words.next()))
        .collect();
    let ours = sections
        .iter()
        .position(|name| *name == ".osrel")
        .unwrap_or_else(|| panic!("no .osrel in: {told}"));
    assert_eq!(
        sections[ours..],
        [".osrel", ".cmdline", ".uname", ".initrd", ".linux"]
    );
    assert!(sections[..ours].contains(&".text"), "no stub in: {told}");

    let folder = tempfile::tempdir().expect("a folder");
    let section = |name: &str| {
        let (dump, rest) = (folder.path().join("dump"), folder.path().join("rest"));
        let dumped = format!("{name}={}", dump.display());
        let arguments = ["--dump-section", &dumped].map(AsRef::as_ref);
        let files = [uki.as_os_str(), rest.as_os_str()];
        OBJCOPY.text(OBJCOPY.run(arguments.into_iter().chain(files)));
        read(&dump)
    };
    assert!(section(".linux") == read(&image.join(KERNEL)), "the kernel");
    assert!(
        section(".initrd") == read(&image.join(INITRD)),
        "the initrd"
    );
    let cmdline = section(".cmdline");
    let expected = read(&image.join(CMDLINE));
    assert_eq!(
        String::from_utf8_lossy(&cmdline),
        String::from_utf8_lossy(expected.trim_ascii_end())
    );
}

#[test]
fn cpio_lists_and_unpacks_the_initrd() {
    let test = "cpio_lists_and_unpacks_the_initrd";
    if !tool::all_here(test, &[GZIP, CPIO]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("initrd");
    let packed = base_image().join(INITRD);
    let unpacked = GZIP.bytes(GZIP.run_on(&packed, ["--decompress", "--stdout"]));
    fs::write(&archive, unpacked).expect("a writable folder");
    let listed = CPIO.text(CPIO.run_on(&archive, ["--list", "--quiet"]));
    let names: Vec<&str> = listed.lines().collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(names, sorted, "entries out of order, or twice");
    for needed in ["dev", "init", "noonmark.json", "proc", "sys"] {
        assert!(names.contains(&needed), "no {needed} in: {listed}");
    }
    let arguments = ["--extract", "--to-stdout", "--quiet", "init"];
    let init = CPIO.bytes(CPIO.run_on(&archive, arguments));
    assert!(init.starts_with(b"\x7fELF"), "/init is no program");
}
