//! FAT volumes, and the seed disks that are one.

use std::collections::BTreeMap;

use noonmark_image::fat::{self, Volume};
use noonmark_image::hash::Sha256Hex;
use noonmark_image::seed::{self, Format, Seed};
use noonmark_image::spec::DEFAULT_SOURCE_DATE;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn write(files: &[(&str, &[u8])]) -> Vec<u8> {
    let files = files
        .iter()
        .map(|(path, content)| (path.to_string(), *content));
    fat::write(&Volume {
        label: "NOONMARK",
        date: DEFAULT_SOURCE_DATE,
        files: &files.collect(),
    })
    .expect("a volume")
}

#[test]
fn a_volume_says_what_firmware_and_tools_look_for() {
    let volume = write(&[("EFI/BOOT/BOOTX64.EFI", b"program")]);
    assert_eq!(&volume[510..512], [0x55, 0xaa]);
    assert_eq!(&volume[54..62], b"FAT16   ");
    assert_eq!(&volume[43..54], b"NOONMARK   ", "the boot sector's label");
    let content = fat::read(&volume).expect("a volume");
    assert_eq!(content.label, "NOONMARK", "the root folder's label");
    assert_eq!(
        content.files,
        BTreeMap::from([("EFI/BOOT/BOOTX64.EFI".into(), b"program".to_vec())])
    );
}

#[test]
fn every_entry_has_the_volumes_date() {
    let volume = write(&[("EFI/BOOT/BOOTX64.EFI", b"program")]);
    // 2026-01-01 as FAT has it: years since 1980, month, day.
    let date: [u8; 2] = ((2026_u16 - 1980) << 9 | 1 << 5 | 1).to_le_bytes();
    for name in [
        b"EFI        ",
        b"BOOT       ",
        b"BOOTX64 EFI",
        b".          ",
        b"..         ",
    ] {
        let at = volume
            .windows(11)
            .position(|window| window == name)
            .expect("the entry");
        let entry = &volume[at..at + 32];
        assert_eq!(
            (&entry[16..18], &entry[24..26]),
            (&date[..], &date[..]),
            "{name:?}"
        );
    }
}

#[test]
fn a_folder_begins_with_its_dot_entries() {
    let volume = write(&[("EFI/BOOT/BOOTX64.EFI", b"program")]);
    let dot = volume
        .windows(11)
        .position(|w| w == b".          ")
        .expect("a folder");
    assert!(
        dot.is_multiple_of(512),
        "the entry `.` is not the first of its folder"
    );
    assert!(volume[dot + 32..].starts_with(b"..         "));
}

#[test]
fn the_same_content_gives_the_same_volume_and_another_another_id() {
    let one = write(&[("A", b"content")]);
    assert_eq!(one, write(&[("A", b"content")]));
    let id = |volume: &[u8]| volume[39..43].to_vec();
    assert_ne!(id(&one), id(&write(&[("A", b"CONTENT")])));
}

#[test]
fn a_volume_is_no_larger_than_its_content_asks_for() {
    let content = vec![1; 14 << 20];
    assert!(write(&[("A", &content)]).len() <= 15 << 20);
    assert!(write(&[("A", b"")]).len() <= 3 << 20);
}

#[test]
fn labels_and_dates_that_fat_can_not_hold_are_refused() {
    let files = BTreeMap::new();
    for label in ["", "TWELVE BYTES", "TWELVEBYTES1", "lower", "a/b"] {
        let volume = Volume {
            label,
            date: DEFAULT_SOURCE_DATE,
            files: &files,
        };
        let message = fat::write(&volume).expect_err("a bad label").to_string();
        assert!(message.starts_with(&format!("FAT label `{label}`: expected 1 to 11")));
    }
    let date = noonmark_contract::units::Utc(0);
    let volume = Volume {
        label: "A",
        date,
        files: &files,
    };
    assert!(
        fat::write(&volume).is_err(),
        "1970 is before FAT's first year"
    );
}

#[test]
fn a_seed_disk_has_the_names_and_label_that_nocloud_looks_for() {
    let seed = Seed {
        user_data: b"#cloud-config\n",
        meta_data: b"instance-id: a\n",
        network_config: None,
        vendor_data: None,
    };
    let disk = seed::write(&seed, Format::Fat).expect("a seed disk");
    let fat::VolumeContent { label, files, .. } = fat::read(&disk).expect("a volume");
    assert_eq!(label, "CIDATA");
    assert_eq!(files["user-data"], b"#cloud-config\n");
    assert_eq!(files["meta-data"], b"instance-id: a\n");
    assert_eq!(files.len(), 2);
}

#[test]
fn a_seed_disk_is_the_same_on_every_machine() {
    let seed = Seed {
        user_data: b"#noonmark\n",
        meta_data: b"instance-id: a\n",
        network_config: Some(b"version: 2\n"),
        vendor_data: None,
    };
    let disk = seed::write(&seed, Format::Fat).expect("a seed disk");
    assert_eq!(
        Sha256Hex::of(&disk).to_string(),
        include_str!("seed.sha256").trim()
    );
}

proptest! {
    // A volume has megabytes.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_written_reads_back(
        files in btree_map(
            "(d[a-c]{1,12}/){0,3}f[a-z0-9]{1,20}(\\.[a-z]{1,4})?",
            vec(any::<u8>(), 0..5000),
            0..12,
        ),
    ) {
        let borrowed = files.iter().map(|(path, content)| (path.clone(), content.as_slice()));
        let volume = fat::write(&Volume {
            label: "TEST",
            date: DEFAULT_SOURCE_DATE,
            files: &borrowed.collect(),
        });
        let found = fat::read(&volume.expect("a volume")).expect("the same volume");
        prop_assert_eq!(found.files, files);
    }
}
