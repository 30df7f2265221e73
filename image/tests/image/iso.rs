//! ISO 9660 volumes. What others make of one, `tests/tests/disk/` checks.

use std::collections::BTreeMap;

use noonmark_contract::units::Utc;
use noonmark_image::fat::Volume;
use noonmark_image::iso::{self, IsoError};
use noonmark_image::spec::DEFAULT_SOURCE_DATE;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

const SECTOR: usize = 2048;

fn write(label: &str, date: Utc, files: &[(&str, &[u8])]) -> Result<Vec<u8>, IsoError> {
    let files: BTreeMap<String, &[u8]> = files
        .iter()
        .map(|(name, content)| ((*name).to_owned(), *content))
        .collect();
    let files = &files;
    iso::write(&Volume { label, date, files })
}

fn number(bytes: &[u8]) -> usize {
    let (little, big) = bytes.split_at(4);
    let number = u32::from_le_bytes(little.try_into().expect("four bytes"));
    let other = u32::from_be_bytes(big[..4].try_into().expect("four bytes"));
    assert_eq!(number, other, "one number in two orders");
    number as usize
}

/// The names and contents that the descriptor in this sector leads to, in its folder's order.
fn read(disk: &[u8], descriptor: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let root = &disk[descriptor * SECTOR + 156..][..34];
    let content = |record: &[u8]| {
        let begin = number(&record[2..10]) * SECTOR;
        disk[begin..begin + number(&record[10..18])].to_vec()
    };
    let folder = content(root);
    let mut files = Vec::new();
    for sector in folder.chunks(SECTOR) {
        let mut rest = sector;
        while let Some(length) = rest.first().filter(|length| **length > 0) {
            let (record, more) = rest.split_at(usize::from(*length));
            rest = more;
            let name = record[33..33 + usize::from(record[32])].to_vec();
            files.push((name, content(record)));
        }
    }
    let own = files.drain(..2).map(|(_, content)| content);
    assert!(own.into_iter().all(|content| content == folder));
    files
}

#[test]
fn a_volume_has_its_label_and_date_where_they_belong() {
    let disk = write("CIDATA", DEFAULT_SOURCE_DATE, &[("user-data", b"x")]).expect("a volume");
    let at = |sector: usize, at: usize, length: usize| &disk[sector * SECTOR + at..][..length];
    assert_eq!(at(16, 0, 7), b"\x01CD001\x01");
    assert_eq!(at(16, 40, 8), b"CIDATA  ");
    assert_eq!(at(17, 0, 7), b"\x02CD001\x01");
    assert_eq!(at(17, 40, 14), b"\0C\0I\0D\0A\0T\0A\0 ");
    assert_eq!(at(17, 88, 3), b"%/E");
    assert_eq!(at(18, 0, 7), b"\xffCD001\x01");
    for descriptor in [16, 17] {
        assert_eq!(at(descriptor, 813, 17), b"2026010100000000\0");
        assert_eq!(number(at(descriptor, 80, 8)) * SECTOR, disk.len());
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let date = DEFAULT_SOURCE_DATE;
    for (outcome, told) in [
        (write("cidata", date, &[]), "label `cidata`"),
        (write("", date, &[]), "label ``"),
        (write("A", date, &[("a/b", b"")]), "`a/b`"),
        (write("A", date, &[("", b"")]), "name ``"),
        (
            write("A", date, &[("user-data-1", b""), ("user-data-2", b"")]),
            "`user-data-2`",
        ),
        (write("A", Utc(i64::MIN), &[]), "1900 to 2155"),
    ] {
        let problem = outcome.unwrap_err().to_string();
        assert!(problem.contains(told), "{problem}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_reads_back_by_either_name(
        files in btree_map("[a-z0-9]{8}[-_a-z]{0,56}", vec(any::<u8>(), 0..5000), 0..20),
    ) {
        let borrowed: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, content)| (name.as_str(), content.as_slice()))
            .collect();
        let Ok(disk) = write("TEST", DEFAULT_SOURCE_DATE, &borrowed) else {
            // Two names with the same eight letters at their start.
            return Ok(());
        };
        let ucs2 = |name: &str| name.bytes().flat_map(|byte| [0, byte]).collect::<Vec<u8>>();
        let short = |name: &str| format!("{}.;1", name[..8].to_ascii_uppercase()).into_bytes();
        let expected = |form: &dyn Fn(&str) -> Vec<u8>| -> Vec<(Vec<u8>, Vec<u8>)> {
            files.iter().map(|(name, content)| (form(name), content.clone())).collect()
        };
        prop_assert_eq!(read(&disk, 16), expected(&short));
        prop_assert_eq!(read(&disk, 17), expected(&ucs2));
    }
}
