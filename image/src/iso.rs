//! ISO 9660 volumes (ECMA-119) with Joliet's names: the seed disk for hypervisors that attach CD-ROMs, a
//! pure function of files, label and date.
//!
//! One root folder, whose files have their names from Joliet and short ones from ISO 9660 at level 1.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use thiserror::Error;

use crate::fat::Volume;

/// Bytes in a sector.
const SECTOR: usize = 2048;

/// Where the volume's parts are, in sectors: the descriptors, the path tables of either root folder in
/// both byte orders, and the files.
const DESCRIPTORS: usize = 16;
const PATH_TABLES: [u32; 2] = [19, 21];
const FILES: u32 = 23;

/// Bytes of a path table that has the root folder alone (ECMA-119, 9.4).
const PATH_TABLE_LEN: u32 = 10;

/// Flag of a folder's record (ECMA-119, 9.1.6).
const FOLDER: u8 = 2;

/// The most letters in a label and in a name of Joliet's form.
const LABEL_MAX: usize = 16;
const NAME_MAX: usize = 64;

/// A volume that can't be written.
#[derive(Debug, Error)]
pub enum IsoError {
    /// A label that the format can't hold.
    #[error("ISO 9660 label `{0}`: expected 1 to {LABEL_MAX} of `A` to `Z`, `0` to `9` and `_`")]
    Label(String),
    /// A name that the format can't hold, or no other name beside it.
    #[error(
        "ISO 9660 volume: the name `{0}`: expected 1 to {NAME_MAX} of `a` to `z`, `0` to `9`, `-`, `_` and \
         `.`, and no other name with the same first 8"
    )]
    Name(String),
    /// More than the format holds.
    #[error("ISO 9660 volume: its files have more than 4 GiB")]
    TooLarge,
    /// A date that the format can't hold.
    #[error("an ISO 9660 volume can't hold the date {0} s after 1970; expected 1900 to 2155")]
    Date(i64),
}

/// Writes a volume.
///
/// # Errors
/// If label, date or files don't fit the format.
pub fn write(volume: &Volume<'_>) -> Result<Vec<u8>, IsoError> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let label = volume.label;
    if !(1..=LABEL_MAX).contains(&label.len()) || !label.bytes().all(allowed) {
        return Err(IsoError::Label(label.into()));
    }
    let date = civil(volume.date.0)?;
    let mut files = Vec::new();
    let mut names = [Vec::new(), Vec::new()];
    let mut taken = BTreeSet::new();
    for (name, content) in volume.files {
        let short = short_name(name);
        if !is_name(name) || !taken.insert(short.clone()) {
            return Err(IsoError::Name(name.clone()));
        }
        let sector = FILES + sectors(files.len())?;
        let length = u32::try_from(content.len()).map_err(|_| IsoError::TooLarge)?;
        names[0].push((short.into_bytes(), sector, length));
        names[1].push((ucs2(name), sector, length));
        files.extend_from_slice(content);
        files.resize(files.len().next_multiple_of(SECTOR), 0);
    }
    let root = FILES + sectors(files.len())?;
    let [short, joliet] = names;
    let short = folder(short, root, date);
    let joliet_root = root + sectors(short.len())?;
    let joliet = folder(joliet, joliet_root, date);
    let end = joliet_root + sectors(joliet.len())?;

    let mut disk = vec![0; DESCRIPTORS * SECTOR];
    // A folder begins with the record of itself.
    for (kind, root) in [(Kind::Primary, &short), (Kind::Joliet, &joliet)] {
        disk.extend(descriptor(kind, label, end, &root[..34], date));
    }
    disk.extend(whole_sectors(b"\xffCD001\x01".to_vec()));
    for root in [root, joliet_root] {
        disk.extend(path_table(root.to_le_bytes(), 1_u16.to_le_bytes()));
        disk.extend(path_table(root.to_be_bytes(), 1_u16.to_be_bytes()));
    }
    for part in [files, short, joliet] {
        disk.extend(part);
    }
    Ok(disk)
}

/// Whose names and texts: ISO 9660's own in ASCII, or Joliet's in UCS-2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Primary,
    Joliet,
}

impl Kind {
    /// A text in a field of so many bytes, filled up with blanks.
    fn text(self, text: &str, len: usize) -> Vec<u8> {
        let (mut field, blank) = match self {
            Self::Primary => (text.as_bytes().to_vec(), &b" "[..]),
            Self::Joliet => (ucs2(text), &b"\0 "[..]),
        };
        while field.len() + blank.len() <= len {
            field.extend_from_slice(blank);
        }
        field.resize(len, 0);
        field
    }
}

/// A volume descriptor (ECMA-119, 8.4 and 8.5).
fn descriptor(kind: Kind, label: &str, end: u32, root: &[u8], date: DateTime) -> Vec<u8> {
    let (number, escape, tables) = match kind {
        Kind::Primary => (1, "", PATH_TABLES[0]),
        // UCS-2 at level 3.
        Kind::Joliet => (2, "%/E", PATH_TABLES[1]),
    };
    let mut bytes = vec![number];
    bytes.extend(b"CD001\x01\0");
    bytes.extend(kind.text("", 32));
    bytes.extend(kind.text(label, 32));
    bytes.extend([0; 8]);
    bytes.extend(both_32(end));
    bytes.extend(escape.bytes());
    bytes.resize(120, 0);
    // One volume in the set, of which this is the first; the length of a block.
    for number in [1, 1, SECTOR as u16] {
        bytes.extend(both_16(number));
    }
    bytes.extend(both_32(PATH_TABLE_LEN));
    bytes.extend(tables.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((tables + 1).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(root);
    // Volume set, publisher, preparer and application; three names of files.
    for (text, len) in [("", 128), ("", 128), ("", 128), ("NOONMARK", 128)] {
        bytes.extend(kind.text(text, len));
    }
    for len in [37; 3] {
        bytes.extend(kind.text("", len));
    }
    let written = date.strftime("%Y%m%d%H%M%S00\0").to_string();
    let never = "0000000000000000\0";
    for date in [&written, &written, never, never] {
        bytes.extend(date.bytes());
    }
    bytes.push(1);
    whole_sectors(bytes)
}

/// A path table of the root folder alone (ECMA-119, 9.4), its numbers in one byte order.
fn path_table(root: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    whole_sectors([&[1, 0][..], &root, &parent, &[0, 0]].concat())
}

/// A folder with the records of itself, of its parent, which is itself, and of files, ordered by name
/// (ECMA-119, 9.3).
fn folder(mut files: Vec<(Vec<u8>, u32, u32)>, own: u32, date: DateTime) -> Vec<u8> {
    files.sort();
    let written = |length: usize| {
        let mut bytes = record(&[0], own, length as u32, FOLDER, date);
        bytes.extend(record(&[1], own, length as u32, FOLDER, date));
        for (name, sector, length) in &files {
            let record = record(name, *sector, *length, 0, date);
            // No record crosses the end of a sector.
            if bytes.len() % SECTOR + record.len() > SECTOR {
                bytes = whole_sectors(bytes);
            }
            bytes.extend(record);
        }
        whole_sectors(bytes)
    };
    // The length does not depend on what is written of it.
    written(written(0).len())
}

/// A directory record (ECMA-119, 9.1).
fn record(name: &[u8], sector: u32, length: u32, flags: u8, date: DateTime) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both_32(sector));
    bytes.extend(both_32(length));
    bytes.push((date.year() - 1900) as u8);
    bytes.extend([date.month(), date.day(), date.hour()].map(i8::unsigned_abs));
    bytes.extend([date.minute(), date.second(), 0].map(i8::unsigned_abs));
    bytes.extend([flags, 0, 0]);
    bytes.extend(both_16(1));
    bytes.push(name.len() as u8);
    bytes.extend(name);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes[0] = bytes.len() as u8;
    bytes
}

/// A number in both byte orders (ECMA-119, 7.2.3 and 7.3.3).
fn both_16(number: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (number.to_le_bytes(), number.to_be_bytes());
    [a, b, c, d]
}

fn both_32(number: u32) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

fn whole_sectors(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

fn sectors(bytes: usize) -> Result<u32, IsoError> {
    // Whatever is behind it, is within what 32 bits can count in bytes.
    match u32::try_from(bytes) {
        Ok(bytes) => Ok(bytes.div_ceil(SECTOR as u32)),
        Err(_) => Err(IsoError::TooLarge),
    }
}

fn is_name(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A name of eight letters, and of three after a dot, in capitals (ECMA-119, 10.1).
fn short_name(name: &str) -> String {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let part = |text: &str, most| -> String {
        let allowed = |letter: char| {
            let letter = letter.to_ascii_uppercase();
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '_'
            }
        };
        text.chars().take(most).map(allowed).collect()
    };
    format!("{}.{};1", part(base, 8), part(extension, 3))
}

fn civil(nanos: i64) -> Result<DateTime, IsoError> {
    let seconds = nanos.div_euclid(1_000_000_000);
    let date = jiff::Timestamp::from_second(seconds)
        .map(|instant| instant.to_zoned(jiff::tz::TimeZone::UTC).datetime());
    date.ok()
        .filter(|date| (1900..=2155).contains(&date.year()))
        .ok_or(IsoError::Date(seconds))
}
