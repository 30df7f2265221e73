//! Files in the root folder of an ISO 9660 volume (ECMA-119), with the names that Rock Ridge
//! (IEEE P1282) or Joliet give them, as genisoimage and xorriso write them.
//!
//! Only the root folder is read, and of the volume's descriptors only the first few, so that no
//! disk can send the reader round in circles: there is nothing here that follows a pointer twice.

use std::io::{Read, Seek, SeekFrom};

use super::error::VolumeError;

/// A sector, and where the volume's descriptors begin.
const SECTOR: u64 = 2048;
const FIRST_DESCRIPTOR: u64 = 16;

/// How many descriptors are looked at; a volume has three or four.
const DESCRIPTORS_MAX: u64 = 16;

/// The longest root folder that is read.
const ROOT_MAX: u32 = 1 << 20;

/// Types of descriptors (ECMA-119, 8.1.1).
const PRIMARY: u8 = 1;
const SUPPLEMENTARY: u8 = 2;
const TERMINATOR: u8 = 255;

/// A volume's root folders.
#[derive(Debug)]
pub struct Roots {
    primary: Extent,
    joliet: Option<Extent>,
}

/// A run of bytes on the disk.
#[derive(Clone, Copy, Debug)]
struct Extent {
    block: u32,
    length: u32,
}

/// The label, which is the primary descriptor's volume identifier, and the root folders; none where
/// the disk is no ISO 9660 volume.
///
/// # Errors
/// If the disk can't be read.
pub fn open(disk: &mut (impl Read + Seek)) -> Result<Option<(String, Roots)>, VolumeError> {
    let mut primary = None;
    let mut joliet = None;
    for index in 0..DESCRIPTORS_MAX {
        let mut sector = [0; SECTOR as usize];
        disk.seek(SeekFrom::Start((FIRST_DESCRIPTOR + index) * SECTOR))?;
        if disk.read_exact(&mut sector).is_err() || &sector[1..6] != b"CD001" {
            break;
        }
        match sector[0] {
            PRIMARY if primary.is_none() => {
                let label = String::from_utf8_lossy(&sector[40..72]);
                primary = Some((label.trim_end().to_owned(), root(&sector)));
            }
            SUPPLEMENTARY if is_joliet(&sector) => joliet = Some(root(&sector)),
            TERMINATOR => break,
            _ => {}
        }
    }
    Ok(primary.map(|(label, primary)| (label, Roots { primary, joliet })))
}

impl Roots {
    /// The content of the root folder's file of this name; none where there is no such file.
    /// Rock Ridge's name counts before Joliet's, and that before the plain one.
    ///
    /// # Errors
    /// If the disk is damaged, or the file longer than `max`.
    pub fn read(
        &self,
        disk: &mut (impl Read + Seek),
        name: &str,
        max: usize,
    ) -> Result<Option<Vec<u8>>, VolumeError> {
        let folder = read_extent(disk, self.primary, ROOT_MAX as usize, "the root folder")?;
        let mut found = find(&folder, |record| {
            let own = rock_ridge_name(record.system_use);
            own.map_or_else(|| is_plain(record.name, name), |own| own == name.as_bytes())
        });
        if found.is_none()
            && let Some(joliet) = self.joliet
        {
            let folder = read_extent(disk, joliet, ROOT_MAX as usize, "the Joliet root folder")?;
            found = find(&folder, |record| is_joliet_name(record.name, name));
        }
        found
            .map(|extent| read_extent(disk, extent, max, name))
            .transpose()
    }
}

/// The extent of a descriptor's root folder: its directory record is at byte 156.
fn root(sector: &[u8; SECTOR as usize]) -> Extent {
    Extent {
        block: little_endian(&sector[158..162]),
        length: little_endian(&sector[166..170]),
    }
}

/// Joliet's three escape sequences, for UCS-2 at levels 1 to 3.
fn is_joliet(sector: &[u8]) -> bool {
    matches!(&sector[88..91], b"%/@" | b"%/C" | b"%/E")
}

fn little_endian(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn read_extent(
    disk: &mut (impl Read + Seek),
    extent: Extent,
    max: usize,
    what: &str,
) -> Result<Vec<u8>, VolumeError> {
    let length = extent.length as usize;
    if length > max {
        return Err(VolumeError::TooLarge {
            what: what.into(),
            length: length as u64,
            max,
        });
    }
    disk.seek(SeekFrom::Start(u64::from(extent.block) * SECTOR))?;
    let mut bytes = vec![0; length];
    disk.read_exact(&mut bytes)
        .map_err(|_| VolumeError::Damaged(format!("{what} lies outside the disk")))?;
    Ok(bytes)
}

/// A directory record (ECMA-119, 9.1).
struct Record<'a> {
    name: &'a [u8],
    system_use: &'a [u8],
}

/// The extent of the first file that `wanted` says yes to.
fn find(folder: &[u8], wanted: impl Fn(&Record<'_>) -> bool) -> Option<Extent> {
    const FOLDER: u8 = 2;
    let mut at = 0;
    while at < folder.len() {
        let length = usize::from(folder[at]);
        if length == 0 {
            // No record crosses a sector's end; the rest of the sector is empty.
            at = (at / SECTOR as usize + 1) * SECTOR as usize;
            continue;
        }
        let record = folder.get(at..at + length)?;
        at += length;
        let name_length = usize::from(*record.get(32)?);
        let name = record.get(33..33 + name_length)?;
        // The name is padded so that what follows starts at an even byte.
        let system_use = record.get(33 + (name_length | 1)..).unwrap_or_default();
        let is_file = record[25] & FOLDER == 0;
        if is_file && wanted(&Record { name, system_use }) {
            return Some(Extent {
                block: little_endian(&record[2..6]),
                length: little_endian(&record[10..14]),
            });
        }
    }
    None
}

/// The name in the system use area's `NM` fields; none where it has none. Long names continue
/// elsewhere on the disk, which is not followed: those that are looked for are short.
fn rock_ridge_name(mut fields: &[u8]) -> Option<&[u8]> {
    while let [first, second, length, _, ..] = *fields {
        let field = fields.get(..usize::from(length).max(4))?;
        if [first, second] == *b"NM" {
            return field.get(5..);
        }
        fields = &fields[field.len()..];
    }
    None
}

/// A plain name: capitals, `-` perhaps written as `_`, `;1` at its end.
fn is_plain(found: &[u8], wanted: &str) -> bool {
    let found = found.split(|byte| *byte == b';').next().unwrap_or_default();
    let found = found.strip_suffix(b".").unwrap_or(found);
    let same = |(a, b): (&u8, u8)| a.to_ascii_lowercase() == b || (*a == b'_' && b == b'-');
    found.len() == wanted.len() && found.iter().zip(wanted.bytes()).all(same)
}

/// Joliet's names are big-endian UCS-2.
fn is_joliet_name(found: &[u8], wanted: &str) -> bool {
    let units = found.chunks(2).map(|unit| match unit {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    });
    let found: Vec<u16> = units.collect();
    let plain = found.split(|unit| *unit == u16::from(b';')).next();
    plain.is_some_and(|plain| plain.iter().copied().eq(wanted.encode_utf16()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_name_is_found_in_the_forms_that_level_1_gives_it() {
        for found in ["USER-DATA", "USER_DATA.;1", "user-data", "USER_DATA;1"] {
            assert!(is_plain(found.as_bytes(), "user-data"), "{found}");
        }
        for other in ["USER-DAT", "USERDATA", "METADATA"] {
            assert!(!is_plain(other.as_bytes(), "user-data"), "{other}");
        }
    }

    #[test]
    fn fields_without_an_end_end() {
        assert_eq!(rock_ridge_name(b"NM\x09\x01\x00name"), Some(&b"name"[..]));
        assert_eq!(rock_ridge_name(b"PX\x00\x01"), None);
        assert_eq!(rock_ridge_name(b"PX\xff\x01abc"), None);
        assert_eq!(rock_ridge_name(b"NM\x04\x01"), None);
    }

    proptest! {
        #[test]
        fn no_folder_upsets_the_reader(
            folder in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            find(&folder, |record| {
                let _ = rock_ridge_name(record.system_use);
                is_joliet_name(record.name, "user-data") && is_plain(record.name, "meta-data")
            });
        }

        #[test]
        fn no_descriptors_upset_the_reader(
            kind in 0_u8..4,
            body in prop::collection::vec(any::<u8>(), 4096..8192),
        ) {
            let mut disk = vec![0; 16 * SECTOR as usize];
            disk.push(kind);
            disk.extend_from_slice(b"CD001");
            disk.extend(body);
            let mut disk = Cursor::new(disk);
            if let Ok(Some((_, roots))) = open(&mut disk) {
                let _ = roots.read(&mut disk, "user-data", 1000);
            }
        }
    }
}
