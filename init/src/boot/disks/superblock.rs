//! What file system a disk has, and its label: fields at fixed places, copied out and compared. No
//! length, count or pointer of the disk is followed; the kernel alone does that, when it mounts it.

use noonmark_contract::config::system::{DataDisk, FileSystem};

/// How much of a disk's start is looked at.
pub const START_BYTES: usize = 2048;

/// `struct ext4_super_block` (fs/ext4/ext4.h) is at byte 1024: in it the magic number, the state with
/// its bit for errors that were found, and the label.
const EXT4: usize = 1024;
const EXT4_MAGIC: (usize, [u8; 2]) = (EXT4 + 0x38, [0x53, 0xef]);
const EXT4_STATE: usize = EXT4 + 0x3a;
const EXT4_ERROR_FS: u8 = 2;
const EXT4_LABEL: usize = EXT4 + 0x78;
const EXT4_LABEL_BYTES: usize = 16;

/// A FAT's boot sector (Microsoft's specification of FAT, 3.1 to 3.3): where the label is, and the
/// mark before it that says so, depends on whether the 16-bit count of a FAT's sectors is 0.
const FAT_LABEL_BYTES: usize = 11;
const FAT16_LABEL: usize = 43;
const FAT32_LABEL: usize = 71;
const FAT_MARK: u8 = 0x29;
const FAT_MARK_BEFORE_LABEL: usize = 5;

/// A file system that a data disk may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Which.
    pub kind: FileSystem,
    /// Its label, without what it is filled up with; empty where it has none.
    pub label: String,
    /// The kernel has found errors in it before, and nobody has checked it since.
    pub has_errors: bool,
}

impl Volume {
    /// Whether this is the label that a `[[mount]]` asks for; FAT's have no case.
    #[must_use]
    pub fn matches_label(&self, disk: &DataDisk) -> bool {
        let wanted = disk.label.as_str();
        match self.kind {
            FileSystem::Ext4 => self.label == wanted,
            FileSystem::Vfat => self.label.eq_ignore_ascii_case(wanted),
        }
    }
}

/// Tells what a disk with this start has; none where it is nothing that is known here.
#[must_use]
pub fn identify(start: &[u8; START_BYTES]) -> Option<Volume> {
    let (at, magic) = EXT4_MAGIC;
    if start[at..at + magic.len()] == magic {
        return Some(Volume {
            kind: FileSystem::Ext4,
            label: text(&start[EXT4_LABEL..EXT4_LABEL + EXT4_LABEL_BYTES]),
            has_errors: start[EXT4_STATE] & EXT4_ERROR_FS != 0,
        });
    }
    if !is_fat(start) {
        return None;
    }
    let sectors_of_a_fat = [start[22], start[23]];
    let at = if sectors_of_a_fat == [0, 0] {
        FAT32_LABEL
    } else {
        FAT16_LABEL
    };
    let is_marked = start[at - FAT_MARK_BEFORE_LABEL] == FAT_MARK;
    Some(Volume {
        kind: FileSystem::Vfat,
        label: if is_marked {
            text(&start[at..at + FAT_LABEL_BYTES])
        } else {
            String::new()
        },
        has_errors: false,
    })
}

/// A jump, a sane sector size, one or two FATs, and the mark at the sector's end. A partition table
/// has that mark too, but hardly the rest.
fn is_fat(start: &[u8; START_BYTES]) -> bool {
    let sector_bytes = u16::from_le_bytes([start[11], start[12]]);
    let jump = start[0] == 0xe9 || (start[0] == 0xeb && start[2] == 0x90);
    jump && matches!(sector_bytes, 512 | 1024 | 2048 | 4096)
        && start[13].is_power_of_two()
        && matches!(start[16], 1 | 2)
        && start[510..512] == [0x55, 0xaa]
}

/// A label up to what it is filled up with: zeros or blanks.
fn text(field: &[u8]) -> String {
    let used = field.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(used).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ext4(label: &[u8]) -> [u8; START_BYTES] {
        let mut start = [0; START_BYTES];
        start[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        start[0x43a] = 1;
        start[0x478..0x478 + label.len()].copy_from_slice(label);
        start
    }

    fn fat(label_at: usize, label: &[u8; 11]) -> [u8; START_BYTES] {
        let mut start = [0; START_BYTES];
        start[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
        start[11..14].copy_from_slice(&[0, 2, 4]);
        start[16] = 2;
        start[22] = u8::from(label_at == FAT16_LABEL);
        start[label_at - 5] = 0x29;
        start[label_at..label_at + 11].copy_from_slice(label);
        start[510..512].copy_from_slice(&[0x55, 0xaa]);
        start
    }

    fn told(start: &[u8; START_BYTES]) -> Option<(FileSystem, String)> {
        identify(start).map(|volume| (volume.kind, volume.label))
    }

    #[test]
    fn ext4_and_both_kinds_of_fat_are_told_by_their_labels() {
        let (ext, vfat) = (FileSystem::Ext4, FileSystem::Vfat);
        for (start, expected) in [
            (ext4(b"data"), (ext, "data")),
            (ext4(b"0123456789abcdef"), (ext, "0123456789abcdef")),
            (ext4(b""), (ext, "")),
            (fat(FAT16_LABEL, b"DATA       "), (vfat, "DATA")),
            (fat(FAT32_LABEL, b"MY DATA 123"), (vfat, "MY DATA 123")),
        ] {
            assert_eq!(told(&start), Some((expected.0, expected.1.to_owned())));
        }
    }

    #[test]
    fn a_fat_without_the_mark_has_no_label() {
        let mut start = fat(FAT16_LABEL, b"DATA       ");
        start[FAT16_LABEL - 5] = 0x28;
        assert_eq!(told(&start), Some((FileSystem::Vfat, String::new())));
    }

    #[test]
    fn errors_that_the_kernel_found_are_told() {
        let mut start = ext4(b"data");
        assert!(!identify(&start).unwrap().has_errors);
        start[EXT4_STATE] |= EXT4_ERROR_FS;
        assert!(identify(&start).unwrap().has_errors);
    }

    #[test]
    fn what_is_neither_is_nothing() {
        assert_eq!(told(&[0; START_BYTES]), None);
        let mut partition_table = [0; START_BYTES];
        partition_table[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(told(&partition_table), None);
    }

    proptest! {
        #[test]
        fn no_disk_upsets_it(
            bytes in prop::collection::vec(any::<u8>(), START_BYTES),
            as_ext4: bool,
        ) {
            let mut start = [0; START_BYTES];
            start.copy_from_slice(&bytes);
            if as_ext4 {
                start[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
            }
            let _ = identify(&start);
        }
    }
}
