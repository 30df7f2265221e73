//! ISO 9660 (ECMA-119) and Joliet: the volume descriptors.

use std::io::{self, Read, Seek};

use crate::disk::{is_there, text, u16_at, u32_at, utf16};

/// Bytes of a descriptor, and where the first one is.
const DESCRIPTOR: u64 = 2048;
const FIRST: u64 = 16;

/// How many descriptors are looked at; a volume has three or four.
const DESCRIPTORS_MAX: u64 = 16;

/// Types of descriptors (ECMA-119, 8.1.1).
const PRIMARY: u8 = 1;
const SUPPLEMENTARY: u8 = 2;
const TERMINATOR: u8 = 255;

const LABEL: std::ops::Range<usize> = 40..72;
/// The directory record of the root folder, which is of this length there (ECMA-119, 8.4.18).
const ROOT: std::ops::Range<usize> = 156..190;

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iso9660 {
    /// The label; Joliet's where that is another one, as it may have small letters.
    pub label: String,
    /// Bytes of a block: 512, 1024 or 2048.
    pub block_len: u32,
    /// The directory record of the root folder.
    pub root: [u8; 34],
    /// The one of Joliet's root folder.
    pub joliet: Option<[u8; 34]>,
}

/// Looks at the volume descriptors; none where the disk has no primary one.
///
/// # Errors
/// If the disk can't be read.
pub fn open(disk: &mut (impl Read + Seek)) -> io::Result<Option<Iso9660>> {
    let mut volume: Option<Iso9660> = None;
    for index in 0..DESCRIPTORS_MAX {
        let mut descriptor = [0; DESCRIPTOR as usize];
        let at = (FIRST + index) * DESCRIPTOR;
        if !is_there(disk, at, &mut descriptor)? || &descriptor[1..6] != b"CD001" {
            break;
        }
        match (descriptor[0], &mut volume) {
            (PRIMARY, None) => volume = primary(&descriptor),
            (SUPPLEMENTARY, Some(volume)) if is_joliet(&descriptor) => {
                volume.joliet = Some(root(&descriptor));
                // It has half as many letters, so of a long label it may have the beginning alone.
                let label = utf16(&descriptor[LABEL]);
                let is_whole = label.encode_utf16().count() < LABEL.len() / 2;
                if is_whole || !volume.label.starts_with(&label) {
                    volume.label = label;
                }
            }
            (TERMINATOR, _) => break,
            _ => {}
        }
    }
    Ok(volume)
}

fn primary(descriptor: &[u8]) -> Option<Iso9660> {
    let block_len = u16_at(descriptor, 128);
    matches!(block_len, 512 | 1024 | 2048).then(|| Iso9660 {
        label: text(&descriptor[LABEL]),
        block_len: block_len.into(),
        root: root(descriptor),
        joliet: None,
    })
}

fn root(descriptor: &[u8]) -> [u8; 34] {
    let record = descriptor[ROOT].first_chunk();
    record.copied().unwrap_or([0; 34])
}

/// Joliet's three escape sequences, for UCS-2 at levels 1 to 3.
fn is_joliet(descriptor: &[u8]) -> bool {
    matches!(&descriptor[88..91], b"%/@" | b"%/C" | b"%/E")
}

/// Where a directory record's content begins, in blocks, and its length in bytes.
#[must_use]
pub fn extent(record: &[u8]) -> (u64, u32) {
    // Before the content may be an extended attribute record.
    let attributes = record.get(1).copied().unwrap_or_default();
    (
        u64::from(u32_at(record, 2)) + u64::from(attributes),
        u32_at(record, 10),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn descriptor(kind: u8, label: &[u8]) -> Vec<u8> {
        let mut descriptor = vec![0; 2048];
        descriptor[0] = kind;
        descriptor[1..6].copy_from_slice(b"CD001");
        descriptor[40..40 + label.len()].copy_from_slice(label);
        descriptor[128..130].copy_from_slice(&2048_u16.to_le_bytes());
        descriptor[156] = kind;
        if kind == SUPPLEMENTARY {
            descriptor[88..91].copy_from_slice(b"%/E");
        }
        descriptor
    }

    fn disk(descriptors: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; 16 * 2048], descriptors.concat()].concat()
    }

    fn opened(descriptors: &[Vec<u8>]) -> Option<Iso9660> {
        open(&mut Cursor::new(disk(descriptors))).expect("a readable disk")
    }

    #[test]
    fn the_label_is_the_primary_ones_unless_joliet_has_another() {
        let plain = |label: &[u8]| opened(&[descriptor(PRIMARY, label)]).unwrap().label;
        assert_eq!(plain(b"cidata\0\0\0"), "cidata");
        assert_eq!(plain(b"CIDATA      "), "CIDATA");
        for (first, second, told) in [
            (&b"CIDATA  "[..], &b"\0c\0i\0d\0a\0t\0a\0 "[..], "cidata"),
            (
                b"A_LABEL_OF_20_LETTER",
                b"\0A\0_\0L\0A\0B\0E\0L\0_\0O\0F\0_\x002\x000\0_\0L\0E",
                "A_LABEL_OF_20_LETTER",
            ),
            (b"CIDATA2", b"\0C\0I\0D\0A\0T\0A\0\0", "CIDATA"),
            (b"CIDATA", b"\0 \0 ", ""),
        ] {
            let volume = opened(&[
                descriptor(PRIMARY, first),
                descriptor(SUPPLEMENTARY, second),
            ]);
            let volume = volume.unwrap();
            assert_eq!(volume.label, told);
            assert_eq!(volume.joliet.unwrap()[0], SUPPLEMENTARY);
            assert_eq!(volume.root[0], PRIMARY);
        }
    }

    #[test]
    fn descriptors_count_up_to_the_last_one() {
        let (last, joliet) = (descriptor(TERMINATOR, b""), descriptor(SUPPLEMENTARY, b""));
        let volume = opened(&[descriptor(0, b""), descriptor(PRIMARY, b"x"), last, joliet]);
        assert_eq!(volume.unwrap().joliet, None);
        assert_eq!(opened(&[descriptor(TERMINATOR, b"")]), None);
        assert_eq!(opened(&vec![descriptor(0, b""); 40]), None);
    }

    proptest! {
        #[test]
        fn no_descriptors_upset_it(
            kinds in prop::collection::vec(0_u8..4, 1..4),
            body in prop::collection::vec(any::<u8>(), 6144),
            length in 32_768_usize..40_000,
        ) {
            let mut bytes = [vec![0; 16 * 2048], body].concat();
            for (index, kind) in kinds.iter().enumerate() {
                let at = (16 + index) * 2048;
                bytes[at] = *kind;
                bytes[at + 1..at + 6].copy_from_slice(b"CD001");
                bytes[at + 128..at + 130].copy_from_slice(&[0, 8]);
            }
            bytes.truncate(length);
            let _ = open(&mut Cursor::new(bytes)).expect("a readable disk");
        }
    }
}
