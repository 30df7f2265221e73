//! UDF (OSTA's specification 1.02 to 2.01, on ECMA-167): from the volume recognition sequence over the
//! anchor to the volume descriptors, which have the label, the partitions, and where the files begin.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};

use crate::disk::{is_there, u16_at, u32_at, utf16};

/// The volume recognition sequence (ECMA-167, 2/8.3): where it begins, how many structures of it are
/// looked at, and how long they are, which depends on the blocks.
const RECOGNITION: u64 = 32 * 1024;
const STRUCTURES_MAX: u64 = 64;
const STRUCTURE_LENS: [u64; 2] = [2048, 4096];

/// The blocks that there may be; that of optical discs first.
const BLOCK_LENS: [u32; 4] = [2048, 512, 1024, 4096];

/// The block with the anchor (ECMA-167, 3/8.4.2.1), where the volume descriptors are.
const ANCHOR: u32 = 256;

/// How many volume descriptors are looked at; a volume has about six.
const DESCRIPTORS_MAX: u32 = 64;

/// How many partitions a volume may have.
const PARTITIONS_MAX: usize = 8;

/// How much of a descriptor is looked at.
const DESCRIPTOR: usize = 512;

/// Identifiers of descriptors (ECMA-167, 3/7.2.1).
const TAG_ANCHOR: u16 = 2;
const TAG_PARTITION: u16 = 5;
const TAG_LOGICAL_VOLUME: u16 = 6;
const TAG_TERMINATING: u16 = 8;

/// A place in a partition, as a `lb_addr` has it (ECMA-167, 4/7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The block, from the partition's first on.
    pub block: u32,
    /// The partition's number in the logical volume.
    pub partition: u16,
}

/// A partition of the logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partition {
    /// These blocks of the disk.
    Plain {
        /// The first.
        start: u32,
        /// How many.
        blocks: u32,
    },
    /// One whose blocks are found by a table, of this name.
    Mapped(String),
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udf {
    /// The logical volume's identifier, which is what systems show.
    pub label: String,
    /// Bytes of a block.
    pub block_len: u32,
    /// The partitions, by their numbers in the logical volume.
    pub partitions: Vec<Partition>,
    /// Where the file set's descriptor is.
    pub file_set: Place,
}

/// Looks for the volume descriptors; none where the disk is no UDF.
///
/// # Errors
/// If the disk can't be read.
pub fn open(disk: &mut (impl Read + Seek)) -> io::Result<Option<Udf>> {
    if !is_recognized(disk)? {
        return Ok(None);
    }
    for block_len in BLOCK_LENS {
        let mut anchor = [0; DESCRIPTOR];
        let at = u64::from(ANCHOR) * u64::from(block_len);
        let there = is_there(disk, at, &mut anchor)?;
        if !there || !is_tagged(&anchor, TAG_ANCHOR, ANCHOR) {
            continue;
        }
        // The main sequence, and its copy.
        for extent in [16, 24] {
            let blocks = u32_at(&anchor, extent) / block_len;
            let first = u32_at(&anchor, extent + 4);
            if let Some(volume) = descriptors(disk, block_len, first, blocks)? {
                return Ok(Some(volume));
            }
        }
    }
    Ok(None)
}

/// Whether a descriptor is one of this kind that was written for this block, and its tag is whole.
#[must_use]
pub fn is_tagged(descriptor: &[u8], kind: u16, block: u32) -> bool {
    let Some(tag) = descriptor.first_chunk::<16>() else {
        return false;
    };
    let others = tag[..4].iter().chain(&tag[5..]);
    let sum = others.fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    sum == tag[4] && u16_at(tag, 0) == kind && u32_at(tag, 12) == block
}

/// Text in OSTA's compressed Unicode: a first byte of 8 for Latin-1, of 16 for UTF-16.
#[must_use]
pub fn unicode(field: &[u8]) -> String {
    match field.split_first() {
        Some((8, latin)) => latin.iter().copied().map(char::from).collect(),
        Some((16, units)) => utf16(units),
        _ => String::new(),
    }
}

fn is_recognized(disk: &mut (impl Read + Seek)) -> io::Result<bool> {
    for length in STRUCTURE_LENS {
        for index in 0..STRUCTURES_MAX {
            let mut structure = [0; 6];
            if !is_there(disk, RECOGNITION + index * length, &mut structure)? {
                break;
            }
            match &structure[1..] {
                b"NSR02" | b"NSR03" => return Ok(true),
                b"BEA01" | b"BOOT2" | b"CD001" | b"CDW02" | b"TEA01" => {}
                _ => break,
            }
        }
    }
    Ok(false)
}

/// Reads the sequence of volume descriptors; of several of one kind the one with the highest number
/// counts (ECMA-167, 3/8.4.3).
fn descriptors(
    disk: &mut (impl Read + Seek),
    block_len: u32,
    first: u32,
    blocks: u32,
) -> io::Result<Option<Udf>> {
    let mut logical: Option<[u8; DESCRIPTOR]> = None;
    let mut partitions = BTreeMap::<u16, [u8; DESCRIPTOR]>::new();
    let number = |descriptor: &[u8; DESCRIPTOR]| u32_at(descriptor, 16);
    for index in 0..blocks.min(DESCRIPTORS_MAX) {
        let Some(block) = first.checked_add(index) else {
            break;
        };
        let mut descriptor = [0; DESCRIPTOR];
        let at = u64::from(block) * u64::from(block_len);
        if !is_there(disk, at, &mut descriptor)? {
            break;
        }
        let kind = u16_at(&descriptor, 0);
        if !is_tagged(&descriptor, kind, block) || kind == TAG_TERMINATING {
            break;
        }
        let newer = |old: Option<&[u8; DESCRIPTOR]>| {
            old.is_none_or(|old| number(old) <= number(&descriptor))
        };
        if kind == TAG_LOGICAL_VOLUME && newer(logical.as_ref()) {
            logical = Some(descriptor);
        }
        let own = u16_at(&descriptor, 22);
        if kind == TAG_PARTITION && newer(partitions.get(&own)) {
            partitions.insert(own, descriptor);
        }
    }
    Ok(logical.map(|logical| logical_volume(&logical, block_len, &partitions)))
}

/// What the logical volume's descriptor says (ECMA-167, 3/10.6).
fn logical_volume(
    descriptor: &[u8; DESCRIPTOR],
    block_len: u32,
    on_disk: &BTreeMap<u16, [u8; DESCRIPTOR]>,
) -> Udf {
    // A `dstring` has its length in its last byte, with the first byte counted.
    let identifier = &descriptor[84..212];
    let length = usize::from(identifier[127]).min(127);
    let map_len = u32_at(descriptor, 264).min(DESCRIPTOR as u32) as usize;
    let maps = &descriptor[440..DESCRIPTOR.min(440 + map_len)];
    Udf {
        label: unicode(&identifier[..length]).trim_end().to_owned(),
        block_len,
        partitions: partition_maps(maps, on_disk),
        file_set: Place {
            block: u32_at(descriptor, 252),
            partition: u16_at(descriptor, 256),
        },
    }
}

/// The partition maps (ECMA-167, 3/10.7): of type 1 those that are a partition of the disk.
fn partition_maps(mut maps: &[u8], on_disk: &BTreeMap<u16, [u8; DESCRIPTOR]>) -> Vec<Partition> {
    let mut partitions = Vec::new();
    while let [kind, length, ..] = *maps {
        let Some((map, rest)) = maps.split_at_checked(usize::from(length)) else {
            break;
        };
        let own = on_disk.get(&u16_at(map, 4));
        partitions.push(match own {
            Some(partition) if kind == 1 && length == 6 => Partition::Plain {
                start: u32_at(partition, 188),
                blocks: u32_at(partition, 192),
            },
            _ => {
                let name = map.get(5..28).unwrap_or_default();
                Partition::Mapped(crate::disk::text(name))
            }
        });
        if map.is_empty() || partitions.len() == PARTITIONS_MAX {
            break;
        }
        maps = rest;
    }
    partitions
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    const BLOCK: usize = 512;

    fn tag(descriptor: &mut [u8], kind: u16, block: u32) {
        descriptor[..2].copy_from_slice(&kind.to_le_bytes());
        descriptor[12..16].copy_from_slice(&block.to_le_bytes());
        descriptor[4] = 0;
        descriptor[4] = descriptor[..16]
            .iter()
            .fold(0, |sum, byte| sum.wrapping_add(*byte));
    }

    /// A disk of 512-byte blocks with an anchor at 256, and at 260 a partition and a logical volume.
    fn disk(label: &[u8]) -> Vec<u8> {
        let mut disk = vec![0; 300 * BLOCK];
        for (index, name) in [b"BEA01", b"NSR02", b"TEA01"].into_iter().enumerate() {
            let at = RECOGNITION as usize + index * 2048 + 1;
            disk[at..at + 5].copy_from_slice(name);
        }
        let anchor = &mut disk[256 * BLOCK..][..BLOCK];
        anchor[16..20].copy_from_slice(&(16 * BLOCK as u32).to_le_bytes());
        anchor[20..24].copy_from_slice(&260_u32.to_le_bytes());
        tag(anchor, TAG_ANCHOR, 256);
        let partition = &mut disk[260 * BLOCK..][..BLOCK];
        partition[22] = 7;
        partition[188..192].copy_from_slice(&270_u32.to_le_bytes());
        partition[192..196].copy_from_slice(&20_u32.to_le_bytes());
        tag(partition, TAG_PARTITION, 260);
        let logical = &mut disk[261 * BLOCK..][..BLOCK];
        logical[84..84 + label.len()].copy_from_slice(label);
        logical[211] = label.len() as u8;
        logical[252] = 3;
        logical[264] = 6;
        logical[440..446].copy_from_slice(&[1, 6, 1, 0, 7, 0]);
        tag(logical, TAG_LOGICAL_VOLUME, 261);
        tag(&mut disk[262 * BLOCK..], TAG_TERMINATING, 262);
        disk
    }

    fn opened(disk: &[u8]) -> Option<Udf> {
        open(&mut Cursor::new(disk)).expect("a readable disk")
    }

    #[test]
    fn a_volume_is_found_from_its_anchor_on() {
        for label in [&b"\x08cidata"[..], b"\x10\0c\0i\0d\0a\0t\0a"] {
            let volume = opened(&disk(label)).expect("a volume");
            let expected = Udf {
                label: "cidata".into(),
                block_len: 512,
                partitions: vec![Partition::Plain {
                    start: 270,
                    blocks: 20,
                }],
                file_set: Place {
                    block: 3,
                    partition: 0,
                },
            };
            assert_eq!(volume, expected);
        }
    }

    #[test]
    fn of_several_descriptors_the_last_written_counts() {
        let mut disk = disk(b"\x08old");
        let mut newer = disk[261 * BLOCK..][..BLOCK].to_vec();
        newer[85..88].copy_from_slice(b"new");
        newer[16] = 5;
        tag(&mut newer, TAG_LOGICAL_VOLUME, 262);
        disk[262 * BLOCK..][..BLOCK].copy_from_slice(&newer);
        assert_eq!(opened(&disk).unwrap().label, "new");
    }

    #[test]
    fn a_partition_that_is_found_by_a_table_is_told_by_name() {
        let mut disk = disk(b"\x08x");
        let logical = &mut disk[261 * BLOCK..][..BLOCK];
        logical[264] = 64;
        logical[440..442].copy_from_slice(&[2, 64]);
        logical[445..468].copy_from_slice(b"*UDF Metadata Partition");
        let partitions = opened(&disk).unwrap().partitions;
        let name = "*UDF Metadata Partition";
        assert_eq!(partitions, [Partition::Mapped(name.into())]);
    }

    #[test]
    fn what_is_no_udf_is_none() {
        let whole = disk(b"\x08x");
        for at in [RECOGNITION as usize + 2049, 256 * BLOCK + 4, 261 * BLOCK] {
            let mut disk = whole.clone();
            disk[at] ^= 1;
            assert_eq!(opened(&disk), None, "{at}");
        }
        for length in [0, 33_000, 256 * BLOCK, 261 * BLOCK] {
            assert_eq!(opened(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_volume_upsets_it(
            damage in prop::collection::vec((0_usize..4 * BLOCK, any::<u8>()), 0..12),
            anchor: bool,
        ) {
            let mut disk = disk(b"\x08cidata");
            for (at, byte) in damage {
                disk[if anchor { 256 } else { 260 } * BLOCK + at] = byte;
            }
            // Tags that are whole, whatever is in what they stand before.
            tag(&mut disk[256 * BLOCK..][..BLOCK], TAG_ANCHOR, 256);
            tag(&mut disk[261 * BLOCK..][..BLOCK], TAG_LOGICAL_VOLUME, 261);
            if let Some(volume) = opened(&disk) {
                prop_assert!(volume.label.chars().count() <= 126);
                prop_assert!(volume.partitions.len() <= PARTITIONS_MAX);
            }
        }
    }
}
