//! The GUID partition table.

use noonmark_image::disk;
use proptest::prelude::*;

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
