//! Files on a UDF volume (OSTA's specification 1.02 to 2.01, on ECMA-167), as mkudffs, `mkisofs -udf`
//! and Windows make it.

use std::io::{Read, Seek};

use noonmark_label::disk::{read_at, u16_at, u32_at};
use noonmark_label::udf::{Partition, Place, Udf, is_tagged, unicode};

use super::error::{VolumeError, bounded};
use super::file_system::{Entry, FileSystem, What};

/// The longest folder that is read.
const FOLDER_MAX: usize = 1 << 20;

/// How many blocks of further extents a file may have.
const CONTINUATIONS_MAX: u32 = 64;

/// Identifiers of descriptors (ECMA-167, 4/7.2.1).
const TAG_FILE_SET: u16 = 256;
const TAG_NAME: u16 = 257;
const TAG_MORE_EXTENTS: u16 = 258;
const TAG_FILE: u16 = 261;
const TAG_EXTENDED_FILE: u16 = 266;

/// Types of files (ECMA-167, 4/14.6.6).
const TYPE_FOLDER: u8 = 4;
const TYPE_LINK: u8 = 12;

/// Characteristics of a name (ECMA-167, 4/14.4.3).
const FOLDER: u8 = 2;
const DELETED: u8 = 4;
const PARENT: u8 = 8;

/// A file's entry: what it is and where its content is.
struct File {
    kind: u8,
    length: u64,
    /// The low bits of its flags: in which form the extents are.
    form: u16,
    /// The extents, or the content itself.
    allocation: Vec<u8>,
    partition: u16,
}

/// A run of bytes, or where there are further ones.
#[derive(Debug, PartialEq, Eq)]
struct Extent {
    length: u32,
    kind: u8,
    place: Place,
}

/// Kinds of extents (ECMA-167, 4/14.14.1.1): recorded, and where further extents are; the others are
/// zeros.
const RECORDED: u8 = 0;
const MORE_EXTENTS: u8 = 3;

impl FileSystem for Udf {
    type Node = Place;

    fn root(&self, disk: &mut (impl Read + Seek)) -> Result<Place, VolumeError> {
        let block = block(self, disk, self.file_set)?;
        if !is_tagged(&block, TAG_FILE_SET, self.file_set.block) {
            return Err(VolumeError::Damaged("there is no file set".into()));
        }
        Ok(place(&block, 404))
    }

    fn entries(
        &self,
        disk: &mut (impl Read + Seek),
        folder: &Place,
    ) -> Result<Vec<Entry<Place>>, VolumeError> {
        let file = file(self, disk, *folder)?;
        if file.kind != TYPE_FOLDER {
            return Err(VolumeError::Damaged("a folder is none".into()));
        }
        let names = content(self, disk, &file, "a folder", FOLDER_MAX)?;
        Ok(entries_of(&names))
    }

    fn is_called(&self, name: &str, wanted: &str) -> bool {
        name == wanted
    }

    fn content(
        &self,
        disk: &mut (impl Read + Seek),
        node: &Place,
        name: &str,
        max: usize,
    ) -> Result<Vec<u8>, VolumeError> {
        let file = file(self, disk, *node)?;
        if file.kind == TYPE_LINK {
            return Err(VolumeError::Link(name.into()));
        }
        content(self, disk, &file, name, max)
    }
}

/// Where a block is on the disk, in bytes; `blocks` from it on are in the partition.
fn locate(udf: &Udf, place: Place, blocks: u64) -> Result<u64, VolumeError> {
    let Place { block, partition } = place;
    match udf.partitions.get(usize::from(partition)) {
        Some(Partition::Plain { start, blocks: all })
            if u64::from(block) + blocks <= u64::from(*all) =>
        {
            Ok((u64::from(*start) + u64::from(block)) * u64::from(udf.block_len))
        }
        Some(Partition::Mapped(name)) => Err(VolumeError::Udf(name.clone())),
        _ => Err(VolumeError::Damaged(format!(
            "there is no block {block} in partition {partition}"
        ))),
    }
}

fn block(udf: &Udf, disk: &mut (impl Read + Seek), place: Place) -> Result<Vec<u8>, VolumeError> {
    let mut block = vec![0; udf.block_len as usize];
    read_at(disk, locate(udf, place, 1)?, &mut block)?;
    Ok(block)
}

/// A `lb_addr` (ECMA-167, 4/7.1).
fn place(bytes: &[u8], at: usize) -> Place {
    Place {
        block: u32_at(bytes, at),
        partition: u16_at(bytes, at + 4),
    }
}

/// Reads a file's entry (ECMA-167, 4/14.9 and 4/14.17).
fn file(udf: &Udf, disk: &mut (impl Read + Seek), icb: Place) -> Result<File, VolumeError> {
    let block = block(udf, disk, icb)?;
    let damaged = |what: &str| VolumeError::Damaged(format!("block {}: {what}", icb.block));
    let lengths = if is_tagged(&block, TAG_FILE, icb.block) {
        168
    } else if is_tagged(&block, TAG_EXTENDED_FILE, icb.block) {
        208
    } else {
        return Err(damaged("there is no file entry"));
    };
    // Strategy 4 is the only one of media that can be written more than once (UDF 2.01, 2.3.5.1).
    if u16_at(&block, 20) != 4 {
        return Err(damaged("a file entry of another strategy than 4"));
    }
    let begin = lengths + 8 + u32_at(&block, lengths) as usize;
    let length = u32_at(&block, lengths + 4) as usize;
    let allocation = block.get(begin..).and_then(|rest| rest.get(..length));
    Ok(File {
        kind: block[27],
        length: u64::from(u32_at(&block, 56)) | u64::from(u32_at(&block, 60)) << 32,
        form: u16_at(&block, 34) & 7,
        allocation: allocation
            .ok_or_else(|| damaged("a file entry is longer than its block"))?
            .to_vec(),
        partition: icb.partition,
    })
}

/// A file's content.
fn content(
    udf: &Udf,
    disk: &mut (impl Read + Seek),
    file: &File,
    name: &str,
    max: usize,
) -> Result<Vec<u8>, VolumeError> {
    let length = bounded(name, file.length, max)?;
    let short = || VolumeError::Damaged(format!("{name} ends before its {length} bytes"));
    let form = match file.form {
        form @ 0..=1 => form,
        3 => {
            let content = file.allocation.get(..length);
            return content.map(<[u8]>::to_vec).ok_or_else(short);
        }
        form => {
            return Err(VolumeError::Damaged(format!(
                "{name} has extents of form {form}"
            )));
        }
    };
    let mut content = Vec::with_capacity(length);
    let mut allocation = file.allocation.clone();
    for _ in 0..=CONTINUATIONS_MAX {
        let mut more = None;
        for extent in extents(&allocation, form, file.partition) {
            let wanted = (length - content.len()).min(extent.length as usize);
            let begin = content.len();
            match extent.kind {
                MORE_EXTENTS => {
                    more = Some(extent.place);
                    break;
                }
                RECORDED => {
                    let blocks = (wanted as u64).div_ceil(udf.block_len.into());
                    let at = locate(udf, extent.place, blocks)?;
                    content.resize(begin + wanted, 0);
                    read_at(disk, at, &mut content[begin..])?;
                }
                _ => content.resize(begin + wanted, 0),
            }
            if content.len() == length {
                break;
            }
        }
        if content.len() == length {
            return Ok(content);
        }
        let next = more.ok_or_else(short)?;
        let block = block(udf, disk, next)?;
        let used = block
            .get(24..)
            .and_then(|rest| rest.get(..u32_at(&block, 20) as usize));
        allocation = match used {
            Some(used) if is_tagged(&block, TAG_MORE_EXTENTS, next.block) => used.to_vec(),
            _ => return Err(short()),
        };
    }
    Err(VolumeError::Damaged(format!(
        "{name} has extents without end"
    )))
}

/// The extents in a file's entry, short ones (ECMA-167, 4/14.14.1) or long ones (4/14.14.2), up to an
/// empty one.
fn extents(allocation: &[u8], form: u16, own: u16) -> impl Iterator<Item = Extent> {
    let len = if form == 0 { 8 } else { 16 };
    let extents = allocation.chunks_exact(len).map(move |descriptor| {
        let length = u32_at(descriptor, 0);
        Extent {
            length: length & 0x3fff_ffff,
            kind: (length >> 30) as u8,
            place: if form == 0 {
                Place {
                    block: u32_at(descriptor, 4),
                    partition: own,
                }
            } else {
                place(descriptor, 4)
            },
        }
    });
    extents.take_while(|extent| extent.length > 0)
}

/// A folder's names (ECMA-167, 4/14.4), up to the first thing that is none.
fn entries_of(mut names: &[u8]) -> Vec<Entry<Place>> {
    let mut entries = Vec::new();
    while is_tagged(names, TAG_NAME, u32_at(names, 12)) && names.len() >= 38 {
        let (flags, name_length) = (names[18], usize::from(names[19]));
        let begin = 38 + usize::from(u16_at(names, 36));
        let Some(name) = names.get(begin..begin + name_length) else {
            break;
        };
        if flags & (DELETED | PARENT) == 0 {
            entries.push(Entry {
                name: unicode(name),
                what: if flags & FOLDER == 0 {
                    What::File
                } else {
                    What::Folder
                },
                node: place(names, 24),
            });
        }
        let next = (begin + name_length).next_multiple_of(4);
        names = names.get(next..).unwrap_or_default();
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const BLOCK: usize = 512;

    /// Ten blocks, each full of its number, all of them the only partition.
    fn volume() -> (Udf, Cursor<Vec<u8>>) {
        let partitions = vec![Partition::Plain {
            start: 0,
            blocks: 10,
        }];
        let udf = Udf {
            label: String::new(),
            block_len: BLOCK as u32,
            partitions,
            file_set: Place {
                block: 0,
                partition: 0,
            },
        };
        let blocks = (0..10).flat_map(|number| [number; BLOCK]).collect();
        (udf, Cursor::new(blocks))
    }

    /// A file of short extents, each with its kind, length and block.
    fn file(length: u64, extents: &[(u32, u32, u32)]) -> File {
        let allocation = extents.iter().flat_map(|(kind, length, block)| {
            let length = (kind << 30 | length).to_le_bytes();
            [length, block.to_le_bytes()].concat()
        });
        File {
            kind: 5,
            length,
            form: 0,
            allocation: allocation.collect(),
            partition: 0,
        }
    }

    fn read(disk: Cursor<Vec<u8>>, file: &File) -> Result<Vec<u8>, String> {
        let (udf, mut disk) = (volume().0, disk);
        content(&udf, &mut disk, file, "x", 10_000).map_err(|error| error.to_string())
    }

    /// Makes of a block one of further extents.
    fn more_extents(disk: &mut Cursor<Vec<u8>>, block: usize, extents: &File) {
        let bytes = &mut disk.get_mut()[block * BLOCK..][..BLOCK];
        bytes[..16].fill(0);
        bytes[..2].copy_from_slice(&TAG_MORE_EXTENTS.to_le_bytes());
        bytes[12] = block as u8;
        bytes[4] = bytes[..16]
            .iter()
            .fold(0, |sum, byte| sum.wrapping_add(*byte));
        let length = extents.allocation.len();
        bytes[20..24].copy_from_slice(&(length as u32).to_le_bytes());
        bytes[24..24 + length].copy_from_slice(&extents.allocation);
    }

    #[test]
    fn extents_are_put_together_in_order_and_what_is_not_recorded_is_zero() {
        let (_, mut disk) = volume();
        let further = file(0, &[(0, 600, 4)]);
        more_extents(&mut disk, 9, &further);
        let file = file(1700, &[(0, 512, 7), (1, 512, 3), (2, 100, 0), (3, 512, 9)]);
        let expected = [vec![7; 512], vec![0; 612], vec![4; 512], vec![5; 64]];
        assert_eq!(read(disk, &file), Ok(expected.concat()));
    }

    #[test]
    fn a_file_whose_extents_end_early_or_never_or_elsewhere_is_refused() {
        let (_, disk) = volume();
        for (extents, told) in [
            (&[(0, 512, 7)][..], "x ends before its 1000 bytes"),
            (&[(0, 512, 7), (0, 0, 0), (0, 512, 8)], "x ends before"),
            (&[(0, 1000, 9)], "no block 9 in partition 0"),
            (&[(0, 1000, u32::MAX)], "no block"),
            (&[(3, 512, 7)], "x ends before"),
        ] {
            let problem = read(disk.clone(), &file(1000, extents)).unwrap_err();
            assert!(problem.contains(told), "{problem}");
        }
        let mut circle = disk;
        let to_itself = file(1000, &[(3, 512, 9)]);
        more_extents(&mut circle, 9, &to_itself);
        let problem = read(circle, &to_itself).unwrap_err();
        assert!(problem.contains("extents without end"), "{problem}");
    }

    #[test]
    fn names_that_were_removed_and_the_parents_are_left_out() {
        let name = |flags: u8, text: &[u8]| {
            let mut bytes = vec![0; 38];
            bytes[..2].copy_from_slice(&TAG_NAME.to_le_bytes());
            bytes[4] = 2;
            bytes[18] = flags;
            bytes[19] = text.len() as u8;
            bytes[24] = 6;
            bytes.extend(text);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let names = [
            name(PARENT | FOLDER, b""),
            name(0, b"\x08user-data"),
            name(DELETED, b"\x08gone"),
            name(FOLDER, b"\x10\0o\0s"),
            vec![0; 40],
            name(0, b"\x08beyond"),
        ];
        let entries = entries_of(&names.concat());
        let told: Vec<(&str, What)> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.what))
            .collect();
        assert_eq!(told, [("user-data", What::File), ("os", What::Folder)]);
        assert_eq!(entries[0].node.block, 6);
    }
}
