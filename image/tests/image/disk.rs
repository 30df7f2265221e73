//! The GUID partition table.

use std::collections::BTreeMap;
use std::io::Cursor;

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::partition::Partition;
use gpt::partition_types::LINUX_FS;
use noonmark_image::disk::{self, Extent};
use proptest::prelude::*;
use uuid::Uuid;

#[test]
fn a_disk_has_a_protective_mbr_and_both_copies_of_its_table() {
    let disk = disk::write(&[7; 1 << 20]).expect("a disk");
    assert_eq!(disk.len(), 3 << 20);
    assert_eq!(&disk[510..512], [0x55, 0xaa]);
    assert_eq!(disk[450], 0xee, "the type of the protective partition");
    let covered = u32::from_le_bytes(disk[458..462].try_into().expect("four bytes"));
    assert_eq!(covered as usize, disk.len() / 512 - 1);
    assert_eq!(&disk[512..520], b"EFI PART");
    assert_eq!(&disk[disk.len() - 512..][..8], b"EFI PART");
}

#[test]
fn the_table_is_the_same_on_every_machine() {
    let disk = disk::write(&[7; 1 << 20]).expect("a disk");
    let content = disk::read(&disk).expect("a disk");
    let lines = |fields: &[(&str, String)]| -> Vec<String> {
        fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect()
    };
    let dump = [lines(&content.fields), lines(&content.partitions[0].fields)]
        .concat()
        .join("\n");
    assert_eq!(dump, include_str!("disk.txt").trim());
}

#[test]
fn other_content_gives_other_guids() {
    let guid = |volume: &[u8]| {
        let disk = disk::write(volume).expect("a disk");
        disk::read(&disk).expect("a disk").fields[0].1.clone()
    };
    assert_ne!(guid(&[1; 512]), guid(&[2; 512]));
}

#[test]
fn half_a_block_is_refused() {
    assert!(disk::write(&[0; 700]).is_err());
    assert!(disk::write(&[]).is_err());
}

#[test]
fn a_damaged_table_is_told() {
    let mut disk = disk::write(&[7; 512]).expect("a disk");
    disk[1024 + 40] ^= 1;
    assert!(disk::read(&disk).is_err());
}

/// A foreign disk's table, with blocks of this length and one partition of four of them.
fn foreign(block: LogicalBlockSize) -> Vec<u8> {
    let partition = Partition {
        part_type_guid: LINUX_FS,
        part_guid: Uuid::from_u128(1),
        first_lba: 40,
        last_lba: 43,
        flags: 0,
        name: "seed".into(),
    };
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(block)
        .create_from_device(Cursor::new(vec![0; 1 << 20]), Some(Uuid::from_u128(2)))
        .expect("a table");
    let partitions = BTreeMap::from([(3, partition)]);
    table.update_partitions(partitions).expect("a table");
    table.write().expect("a table").into_inner()
}

#[test]
fn the_partitions_of_foreign_disks_are_found_whatever_their_blocks() {
    for (block, length) in [
        (LogicalBlockSize::Lb512, 512),
        (LogicalBlockSize::Lb4096, 4096),
    ] {
        let disk = foreign(block);
        let extent = Extent {
            start: 40 * length,
            length: 4 * length,
        };
        assert_eq!(disk::extents(&mut Cursor::new(disk)), Some(vec![extent]));
    }
    assert_eq!(disk::extents(&mut Cursor::new(vec![0; 1 << 20])), None);
}

/// The length and number of the entries in the table's header, which has its own checksum there.
#[test]
fn no_table_of_foreign_entries_is_taken() {
    for (at, value) in [(80, u32::MAX), (80, 1 << 20), (84, 4096), (84, 0)] {
        let mut disk = foreign(LogicalBlockSize::Lb512);
        let header = &mut disk[512..][..92];
        header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        header[16..20].fill(0);
        let sum = crc32(header).to_le_bytes();
        header[16..20].copy_from_slice(&sum);
        assert_eq!(disk::extents(&mut Cursor::new(disk)), None, "{at} {value}");
    }
}

/// The checksum of a table's header (UEFI specification, 5.3.2).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 * (sum & 1))
        })
    })
}

proptest! {
    #[test]
    fn no_damage_upsets_who_looks_for_partitions(
        damage in prop::collection::vec((512_usize..40 * 512, any::<u8>()), 0..6),
    ) {
        let mut disk = foreign(LogicalBlockSize::Lb512);
        for (at, byte) in damage {
            disk[at] = byte;
        }
        let header = &mut disk[512..][..92];
        header[16..20].fill(0);
        let sum = crc32(header).to_le_bytes();
        header[16..20].copy_from_slice(&sum);
        disk::extents(&mut Cursor::new(disk));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_written_reads_back(blocks in 1_usize..5000, byte in any::<u8>()) {
        let volume = vec![byte; blocks * 512];
        let disk = disk::write(&volume).expect("a disk");
        let content = disk::read(&disk).expect("the same disk");
        prop_assert_eq!(content.partitions.len(), 1);
        prop_assert!(content.partitions[0].bytes == volume);
    }
}
