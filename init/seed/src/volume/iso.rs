//! Files on an ISO 9660 volume (ECMA-119), with the names that Linux shows (fs/isofs): Rock Ridge's
//! (IEEE P1282) where it has them, else Joliet's, else the plain ones.

use std::io::{self, Read, Seek};

use noonmark_label::disk::{damaged, is_there, read_at, u32_at, utf16};
use noonmark_label::iso9660::{Iso9660, extent};

use super::error::{VolumeError, bounded};
use super::file_system::{Entry, FileSystem, What};

/// No record crosses the end of a sector.
const SECTOR: usize = 2048;

/// The longest folder that is read.
const FOLDER_MAX: usize = 1 << 20;

/// How many continuations a record's fields may have, and how long each may be.
const CONTINUATIONS_MAX: u32 = 8;
const CONTINUATION_MAX: u32 = 2048;

/// The longest name that Linux has.
const NAME_MAX: usize = 255;

/// Flags of a directory record (ECMA-119, 9.1.6): a folder; a file that belongs to another one; one that
/// goes on in the next record.
const FOLDER: u8 = 2;
const ASSOCIATED: u8 = 4;
const MULTI_EXTENT: u8 = 128;

/// The type in a POSIX mode, and that of a symbolic link.
const MODE_TYPE: u32 = 0o170_000;
const MODE_LINK: u32 = 0o120_000;

/// Where a volume's names are.
#[derive(Debug)]
enum Names {
    /// In the fields of the system use area, after so many bytes of something else.
    RockRidge {
        skipped: usize,
    },
    Joliet,
    Plain,
}

/// A volume.
#[derive(Debug)]
pub struct Iso {
    block_len: u32,
    root: [u8; 34],
    names: Names,
}

/// Where a file or folder is.
#[derive(Debug)]
pub struct Node {
    block: u64,
    length: u32,
    /// It goes on elsewhere.
    goes_on: bool,
}

impl Iso {
    /// Looks which names the volume has.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn of(disk: &mut (impl Read + Seek), volume: &Iso9660) -> io::Result<Self> {
        let block_len = volume.block_len;
        let mut sector = [0; SECTOR];
        let (block, _) = extent(&volume.root);
        let there = is_there(disk, block * u64::from(block_len), &mut sector)?;
        // The root folder's record of itself says whether there are fields, and where they begin.
        let own = record(&sector).filter(|_| there);
        let names = match (
            own.and_then(|own| fields_begin(own.system_use)),
            volume.joliet,
        ) {
            (Some(skipped), _) => Names::RockRidge { skipped },
            (None, Some(_)) => Names::Joliet,
            (None, None) => Names::Plain,
        };
        let root = match (&names, volume.joliet) {
            (Names::Joliet, Some(joliet)) => joliet,
            _ => volume.root,
        };
        Ok(Self {
            block_len,
            root,
            names,
        })
    }

    /// The name, and whether it is a link's.
    fn name(
        &self,
        disk: &mut (impl Read + Seek),
        record: &Record<'_>,
    ) -> io::Result<(String, bool)> {
        match self.names {
            Names::RockRidge { skipped } => {
                let system_use = record.system_use.get(skipped..).unwrap_or_default();
                let fields = self.fields(disk, system_use)?;
                let name = fields.name.map_or_else(
                    || plain(record.name),
                    |name| String::from_utf8_lossy(&name).into_owned(),
                );
                Ok((name, fields.mode & MODE_TYPE == MODE_LINK))
            }
            Names::Joliet => Ok((without_version(&utf16(record.name)).to_owned(), false)),
            Names::Plain => Ok((plain(record.name), false)),
        }
    }

    /// Reads a record's fields (SUSP 1.12, 4 and 5), those that continue elsewhere too.
    fn fields(&self, disk: &mut (impl Read + Seek), system_use: &[u8]) -> io::Result<Fields> {
        let mut fields = Fields::default();
        let mut area = system_use.to_vec();
        for _ in 0..=CONTINUATIONS_MAX {
            let Some([block, offset, length]) = fields.take(&area) else {
                return Ok(fields);
            };
            area = vec![0; length.min(CONTINUATION_MAX) as usize];
            let at = u64::from(block) * u64::from(self.block_len) + u64::from(offset);
            read_at(disk, at, &mut area)?;
        }
        Err(damaged("a file's fields have no end"))
    }
}

impl FileSystem for Iso {
    type Node = Node;

    fn root(&self, _: &mut (impl Read + Seek)) -> Result<Node, VolumeError> {
        let (block, length) = extent(&self.root);
        Ok(Node {
            block,
            length,
            goes_on: false,
        })
    }

    fn entries(
        &self,
        disk: &mut (impl Read + Seek),
        folder: &Node,
    ) -> Result<Vec<Entry<Node>>, VolumeError> {
        let bytes = self.content(disk, folder, "a folder", FOLDER_MAX)?;
        let mut entries = Vec::new();
        for record in records(&bytes) {
            // A folder's first two records are for itself and the one above it.
            if matches!(record.name, [0 | 1]) || record.flags & ASSOCIATED != 0 {
                continue;
            }
            let (name, is_link) = self.name(disk, &record)?;
            let what = match record.flags & FOLDER {
                _ if is_link => What::Link,
                0 => What::File,
                _ => What::Folder,
            };
            let (block, length) = record.extent;
            let goes_on = record.flags & MULTI_EXTENT != 0;
            entries.push(Entry {
                name,
                what,
                node: Node {
                    block,
                    length,
                    goes_on,
                },
            });
        }
        Ok(entries)
    }

    fn is_called(&self, name: &str, wanted: &str) -> bool {
        match self.names {
            Names::RockRidge { .. } => name == wanted,
            Names::Joliet => name.eq_ignore_ascii_case(wanted),
            Names::Plain => name == wanted || short_forms(wanted).iter().any(|form| form == name),
        }
    }

    fn content(
        &self,
        disk: &mut (impl Read + Seek),
        file: &Node,
        name: &str,
        max: usize,
    ) -> Result<Vec<u8>, VolumeError> {
        let mut content = vec![0; bounded(name, file.length.into(), max)?];
        if file.goes_on {
            let what = format!("{name} is in several parts, as only a file of 4 GiB has to be");
            return Err(VolumeError::Damaged(what));
        }
        read_at(disk, file.block * u64::from(self.block_len), &mut content)?;
        Ok(content)
    }
}

/// A directory record (ECMA-119, 9.1).
struct Record<'a> {
    extent: (u64, u32),
    flags: u8,
    name: &'a [u8],
    system_use: &'a [u8],
}

/// The record at the start of these bytes; none where that is not one.
fn record(bytes: &[u8]) -> Option<Record<'_>> {
    let length = usize::from(*bytes.first()?);
    let record = bytes.get(..length)?;
    let name_length = usize::from(*record.get(32)?);
    Some(Record {
        extent: extent(record),
        flags: record[25],
        name: record.get(33..33 + name_length)?,
        // The name is padded so that what follows starts at an even byte.
        system_use: record.get(33 + (name_length | 1)..).unwrap_or_default(),
    })
}

/// A folder's records, sector by sector: after the last one of a sector the rest of it is empty.
fn records(folder: &[u8]) -> impl Iterator<Item = Record<'_>> {
    folder.chunks(SECTOR).flat_map(|sector| {
        let mut at = 0;
        std::iter::from_fn(move || {
            let record = record(&sector[at..])?;
            at += usize::from(sector[at]);
            Some(record)
        })
    })
}

/// Where the fields of each record begin, by the one in the root folder's record of itself that says so
/// (SUSP 1.12, 5.3); on a disc with CD-ROM XA it stands behind 14 bytes of that.
fn fields_begin(system_use: &[u8]) -> Option<usize> {
    let skipped = |at: usize| match *system_use.get(at..)? {
        [b'S', b'P', 7, 1, 0xbe, 0xef, skipped, ..] => Some(usize::from(skipped)),
        _ => None,
    };
    skipped(0).or_else(|| skipped(14))
}

/// What a record's fields say.
#[derive(Debug, Default)]
struct Fields {
    name: Option<Vec<u8>>,
    /// The POSIX mode.
    mode: u32,
}

impl Fields {
    /// Takes in an area of fields; the block, offset and length of the one that continues it.
    fn take(&mut self, mut area: &[u8]) -> Option<[u32; 3]> {
        let mut continuation = None;
        while let [first, second, length, _, ..] = *area {
            let Some((field, rest)) = area.split_at_checked(usize::from(length).max(4)) else {
                break;
            };
            area = rest;
            match [first, second] {
                [b'N', b'M'] => {
                    let more = field.get(5..).unwrap_or_default();
                    let name = self.name.get_or_insert_default();
                    name.extend(more);
                    name.truncate(NAME_MAX);
                }
                [b'P', b'X'] => self.mode = u32_at(field, 4),
                [b'C', b'E'] => continuation = Some([4, 12, 20].map(|at| u32_at(field, at))),
                [b'S', b'T'] => break,
                _ => {}
            }
        }
        continuation
    }
}

/// A plain name as Linux shows it: in small letters, without its version and the dot before that.
fn plain(name: &[u8]) -> String {
    without_version(&String::from_utf8_lossy(name)).to_ascii_lowercase()
}

fn without_version(name: &str) -> &str {
    let name = name.split_once(';').map_or(name, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// What a plain volume makes of a name: `_` for what is no letter or digit, and at level 1 eight
/// letters, and three after a dot.
fn short_forms(wanted: &str) -> [String; 2] {
    let allowed = |letter: char| match letter {
        '.' | '0'..='9' | 'a'..='z' => letter,
        _ => '_',
    };
    let long: String = wanted.chars().map(allowed).collect();
    let first = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let short = match long.rsplit_once('.') {
        Some((base, extension)) => format!("{}.{}", first(base, 8), first(extension, 3)),
        None => first(&long, 8),
    };
    [long, short]
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn iso(names: Names) -> Iso {
        Iso {
            block_len: 2048,
            root: [0; 34],
            names,
        }
    }

    #[test]
    fn a_plain_name_is_found_in_the_forms_that_level_1_gives_it() {
        let volume = iso(Names::Plain);
        for (found, wanted) in [
            ("USER-DATA", "user-data"),
            ("USER_DATA.;1", "user-data"),
            ("user-data", "user-data"),
            ("USER_DAT.;1", "user-data"),
            ("USER_DAT;1", "user-data"),
            ("NETWORK_.;1", "network-config"),
            ("META_DAT.JSO;1", "meta_data.json"),
        ] {
            assert!(
                volume.is_called(&plain(found.as_bytes()), wanted),
                "{found}"
            );
        }
        for other in ["USER-DAT", "USERDATA", "METADATA", "META_DAT"] {
            assert!(
                !volume.is_called(&plain(other.as_bytes()), "user-data"),
                "{other}"
            );
        }
    }

    #[test]
    fn only_joliets_names_have_no_case() {
        let joliet = iso(Names::Joliet);
        assert!(joliet.is_called(without_version("User-Data.;1"), "user-data"));
        let rock_ridge = iso(Names::RockRidge { skipped: 0 });
        assert!(!rock_ridge.is_called("User-Data", "user-data"));
    }

    #[test]
    fn fields_without_an_end_end() {
        let name = |area: &[u8]| {
            let mut fields = Fields::default();
            fields.take(area);
            fields.name
        };
        let long = b"NM\x09\x01\x01nameNM\x07\x01\x00rest";
        assert_eq!(name(long).as_deref(), Some(&b"namere"[..]));
        assert_eq!(name(b"NM\x09\x01\x00name").as_deref(), Some(&b"name"[..]));
        assert_eq!(name(b"PX\x00\x01"), None);
        assert_eq!(name(b"PX\xff\x01abc"), None);
        assert_eq!(name(b"NM\x04\x01").as_deref(), Some(&b""[..]));
    }

    #[test]
    fn fields_that_continue_in_a_circle_are_refused() {
        let mut area = b"CE\x1c\x01".to_vec();
        area.resize(28, 0);
        area[20] = 28;
        let mut disk = Cursor::new(area.clone());
        let volume = iso(Names::RockRidge { skipped: 0 });
        let problem = volume.fields(&mut disk, &area).unwrap_err().to_string();
        assert!(problem.contains("no end"), "{problem}");
    }

    proptest! {
        #[test]
        fn no_folder_upsets_the_reader(
            bytes in prop::collection::vec(any::<u8>(), 1..6000),
            skipped in any::<u8>(),
            joliet: bool,
        ) {
            let names = if joliet {
                Names::Joliet
            } else {
                Names::RockRidge { skipped: skipped.into() }
            };
            let folder = Node { block: 0, length: bytes.len() as u32, goes_on: false };
            let mut disk = Cursor::new(bytes);
            if let Ok(entries) = iso(names).entries(&mut disk, &folder) {
                prop_assert!(entries.len() <= 6000 / 34);
            }
        }

        #[test]
        fn no_name_upsets_the_reader(name in any::<Vec<u8>>(), wanted in any::<String>()) {
            for names in [Names::Plain, Names::Joliet, Names::RockRidge { skipped: 0 }] {
                iso(names).is_called(&plain(&name), &wanted);
            }
        }
    }
}
