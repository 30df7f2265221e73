//! The disk: a GUID partition table (UEFI specification, chapter 5) around one EFI system partition.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek};

use gpt::disk::LogicalBlockSize;
use gpt::header::read_header_from_arbitrary_device;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::{Partition, file_read_partitions};
use gpt::{GptConfig, partition_types};
use thiserror::Error;
use uuid::Uuid;

use crate::hash::Sha256Hex;

/// Bytes in a logical block.
const BLOCK_LEN: u64 = 512;

/// The first block of the partition: 1 MiB, the alignment that every partitioner keeps.
const FIRST_BLOCK: u64 = 2048;

/// Blocks of the backup table and its header.
const BACKUP_BLOCKS: u64 = 33;

/// Disks are a multiple of this, as some clouds want it.
const DISK_UNIT: u64 = 1 << 20;

/// What an entry of a table has, and how many a foreign one may have; Linux takes no other length.
const ENTRY_LEN: u32 = 128;
const ENTRIES_MAX: u32 = 128;

/// The partition's name.
const PARTITION_NAME: &str = "noonmark-esp";

/// Under which noonmark's GUIDs are derived.
const NAMESPACE: Uuid = Uuid::from_u128(0x312c_47fb_c9da_4fd9_91d8_4c5f_86e8_a790);

/// A disk that can't be written or read.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The partition is no whole number of blocks.
    #[error("a partition of {0} bytes is no whole number of 512-byte blocks")]
    Unaligned(usize),
    /// A part of the table can't be written or read.
    #[error("GUID partition table: can't {deed}: {problem}")]
    Table {
        /// What was being done.
        deed: &'static str,
        /// What the library says.
        problem: String,
    },
}

/// A disk that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskContent {
    /// The table's header, field by field, in words.
    pub fields: Vec<(&'static str, String)>,
    /// The partitions in use.
    pub partitions: Vec<PartitionContent>,
}

/// A partition that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionContent {
    /// Its entry in the table, field by field, in words.
    pub fields: Vec<(&'static str, String)>,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Where a partition is on its disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first.
    pub start: u64,
    /// How many.
    pub length: u64,
}

/// Writes a disk with this volume as its only partition. Its GUIDs follow from the volume, so that
/// equal disks are equal and different ones can be told apart.
///
/// # Errors
/// If the volume is no whole number of blocks, or the table can't be written.
pub fn write(volume: &[u8]) -> Result<Vec<u8>, DiskError> {
    write_at_least(volume, 0)
}

/// The same disk with `len` bytes, which are at least as many as it has: its second table is at its end again.
///
/// # Errors
/// If this is no disk of ours, or `len` is no whole number of MiB.
pub fn grow(disk: &[u8], len: usize) -> Result<Vec<u8>, DiskError> {
    let content = read(disk)?;
    let [partition] = content.partitions.as_slice() else {
        return Err(table("make it larger", "it has not one partition"));
    };
    let grown = write_at_least(&partition.bytes, len as u64)?;
    if grown.len() != len {
        return Err(table("make it larger", format!("{len} bytes are too few")));
    }
    Ok(grown)
}

fn write_at_least(volume: &[u8], len: u64) -> Result<Vec<u8>, DiskError> {
    let volume_len = volume.len() as u64;
    if volume_len == 0 || !volume_len.is_multiple_of(BLOCK_LEN) {
        return Err(DiskError::Unaligned(volume.len()));
    }
    let volume_blocks = volume_len / BLOCK_LEN;
    let disk_len = ((FIRST_BLOCK + volume_blocks + BACKUP_BLOCKS) * BLOCK_LEN)
        .max(len)
        .next_multiple_of(DISK_UNIT);
    let mut disk = Cursor::new(vec![0; disk_len as usize]);
    let start = (FIRST_BLOCK * BLOCK_LEN) as usize;
    disk.get_mut()[start..start + volume.len()].copy_from_slice(volume);

    let hash = Sha256Hex::of(volume).0;
    let guid = |what: &[u8]| Uuid::new_v5(&NAMESPACE, &[what, &hash].concat());
    // The partition ends at LBA 0xffffffff at most, as the protective record says it then.
    let blocks_after_first = u32::try_from(disk_len / BLOCK_LEN - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(blocks_after_first)
        .overwrite_lba0(&mut disk)
        .map_err(|e| table("write the protective MBR", e))?;
    let partition = Partition {
        part_type_guid: partition_types::EFI,
        part_guid: guid(b"partition"),
        first_lba: FIRST_BLOCK,
        last_lba: FIRST_BLOCK + volume_blocks - 1,
        flags: 0,
        name: PARTITION_NAME.into(),
    };
    let mut table_on_disk = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(disk, Some(guid(b"disk")))
        .map_err(|e| table("make its header", e))?;
    table_on_disk
        .update_partitions(BTreeMap::from([(1, partition)]))
        .map_err(|e| table("set its partition", e))?;
    let disk = table_on_disk.write().map_err(|e| table("write it", e))?;
    Ok(disk.into_inner())
}

/// Reads a disk's table and partitions; both copies of the table must be good.
///
/// # Errors
/// If the table is broken, or a partition lies beyond the disk's end.
pub fn read(disk: &[u8]) -> Result<DiskContent, DiskError> {
    let on_disk = GptConfig::new()
        .writable(false)
        .only_valid_headers(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .open_from_device(Cursor::new(disk.to_vec()))
        .map_err(|e| table("read it", e))?;
    let header = on_disk
        .primary_header()
        .map_err(|e| table("read its header", e))?;
    let backup = on_disk
        .backup_header()
        .map_err(|e| table("read its backup header", e))?;
    let fields = vec![
        ("disk GUID", header.disk_guid.to_string()),
        ("first usable block", header.first_usable.to_string()),
        ("last usable block", header.last_usable.to_string()),
        ("backup header's block", header.backup_lba.to_string()),
        (
            "CRC of the partitions",
            format!("{:08x}", header.crc32_parts),
        ),
        (
            "backup's CRC of the partitions",
            format!("{:08x}", backup.crc32_parts),
        ),
    ];
    let partitions = on_disk
        .partitions()
        .values()
        .filter(|partition| partition.is_used())
        .map(|partition| {
            let start = partition.first_lba.checked_mul(BLOCK_LEN);
            let end = partition
                .last_lba
                .checked_add(1)
                .and_then(|end| end.checked_mul(BLOCK_LEN));
            let bytes = start
                .zip(end)
                .and_then(|(start, end)| disk.get(start as usize..end as usize))
                .ok_or_else(|| table("read a partition", "it lies beyond the disk's end"))?;
            Ok(PartitionContent {
                fields: vec![
                    ("type", partition.part_type_guid.guid.to_string()),
                    ("GUID", partition.part_guid.to_string()),
                    ("first block", partition.first_lba.to_string()),
                    ("last block", partition.last_lba.to_string()),
                    ("flags", format!("{:#x}", partition.flags)),
                    ("name", partition.name.clone()),
                ],
                bytes: bytes.to_vec(),
            })
        })
        .collect::<Result<_, DiskError>>()?;
    Ok(DiskContent { fields, partitions })
}

/// Where the partitions are of any disk whose table's first copy is whole, with blocks of 512 or 4096 bytes;
/// none where there is no such table.
pub fn extents(disk: &mut (impl Read + Seek)) -> Option<Vec<Extent>> {
    [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096]
        .into_iter()
        .find_map(|block| {
            let header = read_header_from_arbitrary_device(disk, block).ok()?;
            if header.part_size != ENTRY_LEN || header.num_parts > ENTRIES_MAX {
                return None;
            }
            let partitions = file_read_partitions(disk, &header, block).ok()?;
            let used = partitions.values().filter(|partition| partition.is_used());
            let extent = |partition: &Partition| {
                Some(Extent {
                    start: partition.bytes_start(block).ok()?,
                    length: partition.bytes_len(block).ok()?,
                })
            };
            Some(used.filter_map(extent).collect())
        })
}

fn table(deed: &'static str, problem: impl ToString) -> DiskError {
    DiskError::Table {
        deed,
        problem: problem.to_string(),
    }
}
