//! The disk in the formats of hypervisors and clouds; whether these can read it is tested beside QEMU's programs.

use noonmark_image::disk;
use noonmark_image::formats::DiskFormat::{self, ContainerDisk, Qcow2, TarGz, Vdi, Vhd, Vmdk};
use noonmark_image::hash::Sha256Hex;

/// 2026-01-01.
const DATE: u32 = 1_767_225_600;

fn written(format: DiskFormat, disk: &[u8]) -> Vec<u8> {
    let name = format.file_name();
    format
        .write(disk, DATE)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn disk() -> Vec<u8> {
    let mut volume = vec![0; 3 << 20];
    volume[..70_000].fill(7);
    volume[2 << 20] = 1;
    disk::write(&volume).expect("a disk")
}

#[test]
fn the_same_disk_is_the_same_bits_on_every_machine() {
    let hashes: Vec<String> = [Qcow2, Vmdk, Vhd, Vdi, TarGz, ContainerDisk]
        .iter()
        .map(|format| {
            let hash = Sha256Hex::of(&written(*format, &disk()));
            format!("{hash} {}", format.file_name())
        })
        .collect();
    assert_eq!(hashes.join("\n"), include_str!("formats.sha256").trim());
}

#[test]
fn another_disk_has_another_identity() {
    let footer = |disk: &[u8]| written(Vhd, disk)[disk.len()..].to_vec();
    let mut other = disk();
    let at = other.len() / 2;
    other[at] ^= 1;
    assert_ne!(footer(&disk()), footer(&other));
}

#[test]
fn zeros_are_left_out() {
    let disk = disk::write(&vec![0; 64 << 20]).expect("a disk");
    for format in [Qcow2, Vmdk, Vdi, TarGz] {
        let bytes = written(format, &disk);
        assert!(
            bytes.len() <= 4 << 20,
            "{}: {}",
            format.file_name(),
            bytes.len()
        );
    }
}

#[test]
fn a_disk_that_a_format_cannot_hold_is_refused() {
    for format in [Qcow2, Vmdk, Vhd, Vdi, TarGz] {
        for bytes in [&[][..], &[1; 700]] {
            assert!(format.write(bytes, DATE).is_err(), "{}", format.file_name());
        }
    }
    let error = Vhd.write(&[1; 512], DATE).unwrap_err().to_string();
    assert_eq!(error, "a disk of 512 bytes is no whole number of MiB");
    // No disk of ours, so nobody knows what of it has to move when it grows.
    let error = TarGz.write(&[1; 1 << 20], DATE).unwrap_err().to_string();
    assert!(error.contains("GUID partition table"), "{error}");
}
