//! FAT volumes of all kinds, whole and damaged.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

/// A boot sector of 512-byte sectors, one to a cluster, with a FAT of one sector.
fn boot(kind: Kind, label: &[u8; 11]) -> Vec<u8> {
    let mut boot = vec![0; 512];
    boot[11..17].copy_from_slice(&[0, 2, 1, 1, 0, 1]);
    boot[21] = 0xf8;
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    let (sectors, mark) = match kind {
        Kind::Fat12 => (50_u32, 38),
        Kind::Fat16 => (20_000, 38),
        Kind::Fat32 => (50, 66),
    };
    boot[32..36].copy_from_slice(&sectors.to_le_bytes());
    if kind == Kind::Fat32 {
        boot[36] = 1;
        boot[44] = 2;
    } else {
        boot[17] = 32;
        boot[22] = if kind == Kind::Fat16 { 80 } else { 1 };
    }
    boot[mark] = 0x29;
    boot[mark + 5..mark + 16].copy_from_slice(label);
    boot
}

/// A volume whose root folder begins with these entries.
fn volume(kind: Kind, in_boot: &[u8; 11], entries: &[(&[u8; 11], u8)]) -> Vec<u8> {
    let mut disk = boot(kind, in_boot);
    let root = 512 * if kind == Kind::Fat16 { 81 } else { 2 };
    disk.resize(root + 8 * 512, 0);
    // The root folder's chain, where it has one, ends with its first cluster.
    disk[520..524].copy_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
    for (index, (name, attributes)) in entries.iter().enumerate() {
        let at = root + index * ENTRY_LEN;
        disk[at..at + 11].copy_from_slice(*name);
        disk[at + ATTRIBUTES] = *attributes;
    }
    disk
}

fn label(bytes: Vec<u8>) -> Option<String> {
    let mut disk = Cursor::new(bytes);
    let fat = open(&mut disk).expect("a readable disk")?;
    Some(fat.label(&mut disk).expect("a readable disk"))
}

#[test]
fn a_label_is_the_root_folders_else_the_boot_sectors() {
    let (none, named) = (b"NO NAME    ", b"BOOT\0\0\0\0\0\0\0");
    for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
        for (in_boot, in_root, told) in [
            (none, &[(b"cidata     ", VOLUME_ID)][..], "cidata"),
            (named, &[(b"CIDATA     ", VOLUME_ID | 0x20)], "CIDATA"),
            (named, &[(b"NO NAME    ", VOLUME_ID)], "BOOT"),
            (
                none,
                &[(b"A       TXT", 0x20), (b"LATER      ", VOLUME_ID)],
                "LATER",
            ),
            (named, &[], "BOOT"),
            (none, &[], ""),
            (b" BOOT      ", &[(b" CIDATA    ", VOLUME_ID)], " CIDATA"),
            (b" BOOT      ", &[], "BOOT"),
            // A part of a long name, a folder, and an entry that was removed.
            (
                named,
                &[
                    (b"Along name  ".first_chunk().unwrap(), LONG_NAME),
                    (b"FOLDER     ", VOLUME_ID | FOLDER),
                    (b"\xe5LD        ", VOLUME_ID),
                ],
                "BOOT",
            ),
        ] {
            let disk = volume(kind, in_boot, in_root);
            assert_eq!(label(disk).as_deref(), Some(told), "{kind:?} {in_root:?}");
        }
    }
}

#[test]
fn a_label_without_its_mark_is_none() {
    let mut disk = volume(Kind::Fat12, b"BOOT       ", &[]);
    disk[38] = 0x28;
    assert_eq!(label(disk).as_deref(), Some(""));
}

#[test]
fn what_kind_it_is_the_counts_decide() {
    for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
        let boot = boot(kind, b"NO NAME    ");
        let fat = Fat::of(boot.first_chunk().unwrap()).expect("a FAT");
        assert_eq!(fat.kind, kind);
    }
}

#[test]
fn what_is_no_fat_is_none() {
    let whole = boot(Kind::Fat12, b"NO NAME    ");
    assert!(label(whole[..511].to_vec()).is_none());
    for (at, bytes) in [
        (510, &b"\0\0"[..]),
        (11, b"\x01\x02"),
        (13, b"\x03"),
        (14, b"\0\0"),
        (16, b"\0"),
        (21, b"\x80"),
        (32, b"\0\0\0\0"),
        (54, b"HPFS    "),
    ] {
        let mut disk = whole.clone();
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(label(disk), None, "{at}");
    }
    let mut partition_table = vec![0; 512];
    partition_table[510..].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(label(partition_table), None);
}

#[test]
fn a_root_folder_that_runs_in_a_circle_ends() {
    let mut disk = volume(Kind::Fat32, b"BOOT       ", &[(b"A          ", 0x20); 16]);
    disk[520..524].copy_from_slice(&2_u32.to_le_bytes());
    assert_eq!(label(disk.clone()).as_deref(), Some("BOOT"));
    let mut disk = Cursor::new(disk);
    let fat = open(&mut disk).unwrap().unwrap();
    let all = fat.each_entry(&mut disk, Folder::Root, |_| ControlFlow::<()>::Continue(()));
    assert!(all.unwrap_err().to_string().contains("no end"));
}

#[test]
fn a_fat12s_odd_and_even_entries_are_told_apart() {
    let mut disk = volume(Kind::Fat12, b"NO NAME    ", &[]);
    // Clusters 2 to 5: 3, 0xfff, 0xff7, 0.
    disk[512 + 3..512 + 9].copy_from_slice(&[0x03, 0xf0, 0xff, 0xf7, 0x0f, 0x00]);
    let mut disk = Cursor::new(disk);
    let fat = open(&mut disk).unwrap().unwrap();
    assert_eq!(fat.next(&mut disk, 2).unwrap(), Some(3));
    assert_eq!(fat.next(&mut disk, 3).unwrap(), None);
    assert!(fat.next(&mut disk, 4).is_err());
    assert!(fat.next(&mut disk, 5).is_err());
    assert!(fat.next(&mut disk, 1).is_err() && fat.next(&mut disk, 60).is_err());
}

proptest! {
    #[test]
    fn no_volume_upsets_it(
        kind in prop_oneof![Just(Kind::Fat12), Just(Kind::Fat16), Just(Kind::Fat32)],
        length in 0_usize..50_000,
        damage in prop::collection::vec((0_usize..600, any::<u8>()), 0..12),
    ) {
        let mut disk = volume(kind, b"BOOT       ", &[(b"A          ", 0x20); 16]);
        for (at, byte) in damage {
            disk[at] = byte;
        }
        disk.truncate(length);
        let mut disk = Cursor::new(disk);
        if let Ok(Some(fat)) = open(&mut disk) {
            let label = fat.label(&mut disk);
            prop_assert!(label.is_ok_and(|label| label.chars().count() <= LABEL_LEN));
        }
    }
}
