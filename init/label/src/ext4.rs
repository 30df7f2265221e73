//! ext2, ext3 and ext4: `struct ext4_super_block` (Linux, fs/ext4/ext4.h).

use std::io::{self, Read, Seek};

use crate::disk::{is_there, text, u16_at};

/// Where the superblock begins, and how much of it is looked at.
const SUPERBLOCK: u64 = 1024;
const LENGTH: usize = 0x88;

const MAGIC: (usize, u16) = (0x38, 0xef53);
const STATE: usize = 0x3a;
const ERROR_FS: u16 = 2;
const LABEL: std::ops::Range<usize> = 0x78..0x88;

/// What the superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext4 {
    /// The label; empty where it has none.
    pub label: String,
    /// The kernel has found errors in it before, and nobody has checked it since.
    pub has_errors: bool,
}

/// Looks at the superblock; none where the disk has none.
///
/// # Errors
/// If the disk can't be read.
pub fn open(disk: &mut (impl Read + Seek)) -> io::Result<Option<Ext4>> {
    let mut superblock = [0; LENGTH];
    let (at, magic) = MAGIC;
    if !is_there(disk, SUPERBLOCK, &mut superblock)? || u16_at(&superblock, at) != magic {
        return Ok(None);
    }
    Ok(Some(Ext4 {
        label: text(&superblock[LABEL]),
        has_errors: u16_at(&superblock, STATE) & ERROR_FS != 0,
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn disk(label: &[u8], state: u8) -> Vec<u8> {
        let mut disk = vec![0; 2048];
        disk[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        disk[0x43a] = state;
        disk[0x478..0x478 + label.len()].copy_from_slice(label);
        disk
    }

    fn told(bytes: Vec<u8>) -> Option<(String, bool)> {
        let found = open(&mut Cursor::new(bytes)).expect("a readable disk");
        found.map(|ext4| (ext4.label, ext4.has_errors))
    }

    #[test]
    fn it_is_told_by_its_label_and_its_errors() {
        for label in ["data", "0123456789abcdef", ""] {
            assert_eq!(told(disk(label.as_bytes(), 1)), Some((label.into(), false)));
        }
        assert_eq!(told(disk(b"data", 3)), Some(("data".into(), true)));
        assert_eq!(told(vec![0; 2048]), None);
        assert_eq!(told(disk(b"data", 1)[..1100].to_vec()), None);
    }

    proptest! {
        #[test]
        fn no_superblock_upsets_it(mut bytes in prop::collection::vec(any::<u8>(), 1100..2048)) {
            bytes[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
            let whole = bytes.len() >= SUPERBLOCK as usize + LENGTH;
            prop_assert_eq!(told(bytes).is_some(), whole);
        }
    }
}
