//! Files on a FAT volume, with the names that Linux's vfat shows (fs/fat/dir.c): long ones, else the
//! short ones, with the small letters that Windows NT's flags stand for.

use std::io::{Read, Seek};
use std::ops::ControlFlow;

use noonmark_label::disk::{read_at, u16_at, u32_at};
use noonmark_label::fat::{
    ATTRIBUTES, ATTRIBUTES_MASK, ENTRY_LEN, FOLDER, FREE, Fat, Folder, LONG_NAME, VOLUME_ID,
};

use super::error::{VolumeError, bounded};
use super::file_system::{Entry, FileSystem, What};

/// A part of a long name: the number of the last one has this bit, at most so many are one name, and
/// these bytes of each are UTF-16 (Microsoft's specification of FAT, 7).
const LAST_PART: u8 = 0x40;
const PARTS_MAX: u8 = 20;
const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
const CHECKSUM: usize = 13;

/// Where a short name's flags are, and those for small letters before and after the dot.
const NT_FLAGS: usize = 12;
const SMALL_BASE: u8 = 0x08;
const SMALL_EXTENSION: u8 = 0x10;

/// Where a file or folder is, and how long a file.
#[derive(Debug)]
pub struct Node {
    place: Folder,
    length: u32,
}

impl FileSystem for Fat {
    type Node = Node;

    fn root(&self, _: &mut (impl Read + Seek)) -> Result<Node, VolumeError> {
        Ok(Node {
            place: Folder::Root,
            length: 0,
        })
    }

    fn entries(
        &self,
        disk: &mut (impl Read + Seek),
        folder: &Node,
    ) -> Result<Vec<Entry<Node>>, VolumeError> {
        let mut entries = Vec::new();
        let mut long = LongName::default();
        self.each_entry(disk, folder.place, |entry| {
            let attributes = entry[ATTRIBUTES] & ATTRIBUTES_MASK;
            if entry[0] != FREE && attributes == LONG_NAME {
                long.add(entry);
                return ControlFlow::<()>::Continue(());
            }
            let long = std::mem::take(&mut long);
            if entry[0] != FREE && attributes & VOLUME_ID == 0 {
                let first = u32::from(u16_at(entry, 20)) << 16 | u32::from(u16_at(entry, 26));
                entries.push(Entry {
                    name: long.name_of(entry).unwrap_or_else(|| short_name(entry)),
                    what: if attributes & FOLDER == 0 {
                        What::File
                    } else {
                        What::Folder
                    },
                    node: Node {
                        place: Folder::Chain(first),
                        length: u32_at(entry, 28),
                    },
                });
            }
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }

    fn is_called(&self, name: &str, wanted: &str) -> bool {
        name.eq_ignore_ascii_case(wanted)
    }

    fn content(
        &self,
        disk: &mut (impl Read + Seek),
        file: &Node,
        name: &str,
        max: usize,
    ) -> Result<Vec<u8>, VolumeError> {
        let mut content = vec![0; bounded(name, file.length.into(), max)?];
        let mut first = match file.place {
            Folder::Root => 0,
            Folder::Chain(first) => first,
        };
        let step = self.cluster_len() as usize;
        let mut rest = content.as_mut_slice();
        while !rest.is_empty() {
            // Clusters that lie one behind the other are read at once.
            let (mut last, mut length) = (first, step.min(rest.len()));
            let mut elsewhere = first;
            while length < rest.len() {
                let next = self.next(disk, last)?.ok_or_else(|| {
                    let length = file.length;
                    VolumeError::Damaged(format!("{name} ends before its {length} bytes"))
                })?;
                if next != last + 1 {
                    elsewhere = next;
                    break;
                }
                (last, length) = (next, (length + step).min(rest.len()));
            }
            self.place(last)?;
            let (part, more) = rest.split_at_mut(length);
            read_at(disk, self.place(first)?, part)?;
            (rest, first) = (more, elsewhere);
        }
        Ok(content)
    }
}

/// The parts of a long name, which stand before the entry that they name, the last one first.
#[derive(Debug, Default)]
struct LongName {
    /// The parts, the last one first.
    parts: Vec<[u16; UNITS.len()]>,
    /// How many are still to come.
    missing: u8,
    checksum: u8,
}

impl LongName {
    fn add(&mut self, entry: &[u8; ENTRY_LEN]) {
        let number = entry[0] & !LAST_PART;
        if entry[0] & LAST_PART != 0 && (1..=PARTS_MAX).contains(&number) {
            *self = Self {
                parts: Vec::new(),
                missing: number,
                checksum: entry[CHECKSUM],
            };
        }
        if number == 0 || number != self.missing || entry[CHECKSUM] != self.checksum {
            *self = Self::default();
            return;
        }
        self.missing -= 1;
        self.parts.push(UNITS.map(|at| u16_at(entry, at)));
    }

    /// The name, if all of it is there and it is this entry's.
    fn name_of(&self, entry: &[u8; ENTRY_LEN]) -> Option<String> {
        let checksum = entry[..11]
            .iter()
            .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        if self.parts.is_empty() || self.missing != 0 || checksum != self.checksum {
            return None;
        }
        let units = self.parts.iter().rev().flatten().copied();
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        Some(String::from_utf16_lossy(&units))
    }
}

/// A name of eight and three letters.
fn short_name(entry: &[u8; ENTRY_LEN]) -> String {
    let part = |bytes: &[u8], small: u8| {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if entry[NT_FLAGS] & small == 0 {
            text
        } else {
            text.to_ascii_lowercase()
        }
    };
    let base = part(&entry[..8], SMALL_BASE);
    match part(&entry[8..11], SMALL_EXTENSION) {
        extension if extension.is_empty() => base,
        extension => format!("{base}.{extension}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &[u8; 11], flags: u8) -> [u8; ENTRY_LEN] {
        let mut entry = [0; ENTRY_LEN];
        entry[..11].copy_from_slice(name);
        entry[NT_FLAGS] = flags;
        entry
    }

    /// `user-data` as a part of a long name, and the entry that it names.
    fn long() -> ([u8; ENTRY_LEN], [u8; ENTRY_LEN]) {
        let named = entry(b"USER-D~1   ", 0);
        let mut part = [0; ENTRY_LEN];
        part[0] = LAST_PART | 1;
        part[ATTRIBUTES] = LONG_NAME;
        part[CHECKSUM] = 0xb0;
        for (at, unit) in UNITS.iter().zip(b"user-data") {
            part[*at] = *unit;
        }
        (part, named)
    }

    #[test]
    fn short_names_have_small_letters_where_windows_nt_had_them() {
        for (flags, name) in [
            (0, "LATEST.TXT"),
            (SMALL_BASE, "latest.TXT"),
            (SMALL_BASE | SMALL_EXTENSION, "latest.txt"),
        ] {
            assert_eq!(short_name(&entry(b"LATEST  TXT", flags)), name);
        }
        assert_eq!(short_name(&entry(b"LATEST     ", 0)), "LATEST");
    }

    #[test]
    fn a_long_name_is_its_own_entrys_alone() {
        let (part, named) = long();
        let mut name = LongName::default();
        name.add(&part);
        assert_eq!(name.name_of(&named).as_deref(), Some("user-data"));
        assert_eq!(name.name_of(&entry(b"OTHER      ", 0)), None);
        // The second of two parts alone.
        let mut first = part;
        first[0] = LAST_PART | 2;
        let mut name = LongName::default();
        name.add(&first);
        assert_eq!(name.name_of(&named), None);
        name.add(&first);
        assert_eq!(name.name_of(&named), None);
    }

    proptest! {
        #[test]
        fn no_parts_upset_a_name(
            parts in prop::collection::vec(prop::array::uniform32(any::<u8>()), 0..64),
        ) {
            let mut name = LongName::default();
            for part in &parts {
                name.add(part);
                let _ = name.name_of(part);
            }
            prop_assert!(name.parts.len() <= usize::from(PARTS_MAX));
        }
    }
}
