//! FAT12, FAT16 and FAT32: the boot sector, as Linux reads it (fs/fat/inode.c, `fat_fill_super`), the
//! chains of clusters, and the label in root folder or boot sector.
//!
//! Which of the three a volume is, the counts decide as they do in Linux: it is FAT32 if the boot sector
//! has no 16-bit length of a FAT, however few clusters there are.

use std::io::{self, ErrorKind, Read, Seek};
use std::ops::ControlFlow;

use crate::disk::{damaged, is_there, read_at, text, u16_at, u32_at};

/// Bytes of a folder's entry.
pub const ENTRY_LEN: usize = 32;

/// The longest folder (Linux, `FAT_MAX_DIR_SIZE`): a chain of clusters that runs in a circle has no end.
const FOLDER_MAX: u32 = 2 << 20;

/// How much of a folder is read at once.
const PIECE: usize = 4096;

/// The most clusters that make a volume FAT12, and that each kind can have (Linux, `MAX_FAT12` etc.).
const FAT12_MAX: u64 = 0xff4;
const FAT16_MAX: u64 = 0xfff4;
const FAT32_MAX: u64 = 0x0fff_fff6;

/// The numbers of the first two clusters stand for none.
const FIRST_CLUSTER: u32 = 2;

/// What a label is where there is none.
const NO_NAME: &str = "NO NAME";

/// An entry's attributes (Microsoft's specification of FAT, 6): read only, hidden, system, volume label,
/// folder; the first four together are a part of a long name.
pub const ATTRIBUTES: usize = 11;
/// The attribute of the entry that is the volume's label.
pub const VOLUME_ID: u8 = 0x08;
/// The attribute of a folder.
pub const FOLDER: u8 = 0x10;
/// The attributes of a part of a long name, of those in [`ATTRIBUTES_MASK`].
pub const LONG_NAME: u8 = 0x0f;
/// All attributes that there are.
pub const ATTRIBUTES_MASK: u8 = 0x3f;
/// The first byte of an entry that is free.
pub const FREE: u8 = 0xe5;

/// Bytes of a label.
const LABEL_LEN: usize = 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

/// Where a folder's entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// The root folder: before the first cluster, or on FAT32 in clusters like any other.
    Root,
    /// In the chain that begins with this cluster.
    Chain(u32),
}

/// A FAT volume's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fat {
    kind: Kind,
    cluster_len: u32,
    /// Where the first FAT begins.
    table: u64,
    /// The root folder's place and length, or its first cluster.
    root: (u64, u32),
    root_cluster: u32,
    /// Where cluster 2 begins.
    data: u64,
    /// How many clusters there are.
    clusters: u64,
    /// The label in the boot sector.
    boot_label: Option<String>,
}

/// Looks at the boot sector; none where the disk is no FAT.
///
/// # Errors
/// If the disk can't be read.
pub fn open(disk: &mut (impl Read + Seek)) -> io::Result<Option<Fat>> {
    let mut boot = [0; 512];
    let there = is_there(disk, 0, &mut boot)?;
    Ok(if there { Fat::of(&boot) } else { None })
}

impl Fat {
    fn of(boot: &[u8; 512]) -> Option<Self> {
        let sector = u32::from(u16_at(boot, 11));
        let sectors_of_a_cluster = u32::from(boot[13]);
        let (reserved, tables, media) = (u16_at(boot, 14), boot[16], boot[21]);
        let sane = matches!(sector, 512 | 1024 | 2048 | 4096)
            && sectors_of_a_cluster.is_power_of_two()
            && reserved != 0
            && tables != 0
            && (media == 0xf0 || media >= 0xf8);
        if !sane || !is_marked(boot) {
            return None;
        }
        let short_length = u64::from(u16_at(boot, 22));
        let is_fat32 = short_length == 0;
        let table_sectors = if is_fat32 {
            u64::from(u32_at(boot, 36))
        } else {
            short_length
        };
        let sectors = match u16_at(boot, 19) {
            0 => u64::from(u32_at(boot, 32)),
            sectors => u64::from(sectors),
        };
        let sector = u64::from(sector);
        let root_len = u32::from(u16_at(boot, 17)) * ENTRY_LEN as u32;
        let root_sector = u64::from(reserved) + u64::from(tables) * table_sectors;
        let data_sector = root_sector + u64::from(root_len).div_ceil(sector);
        let counted = sectors.checked_sub(data_sector)? / u64::from(sectors_of_a_cluster);
        let (kind, bits, most) = match counted {
            _ if is_fat32 => (Kind::Fat32, 32, FAT32_MAX),
            0..=FAT12_MAX => (Kind::Fat12, 12, FAT12_MAX),
            _ => (Kind::Fat16, 16, FAT16_MAX),
        };
        let in_table = (table_sectors * sector * 8 / bits).checked_sub(FIRST_CLUSTER.into())?;
        let clusters = counted.min(in_table);
        if clusters > most {
            return None;
        }
        let (mark, label) = if is_fat32 { (66, 71) } else { (38, 43) };
        let boot_label = (boot[mark] == 0x29).then(|| &boot[label..label + LABEL_LEN]);
        Some(Self {
            kind,
            cluster_len: sectors_of_a_cluster * sector as u32,
            table: u64::from(reserved) * sector,
            root: (root_sector * sector, root_len),
            root_cluster: u32_at(boot, 44),
            data: data_sector * sector,
            clusters,
            // Of this one, libblkid leaves out the blanks before it too.
            boot_label: boot_label
                .and_then(label_of)
                .map(|label| label.trim_start().to_owned()),
        })
    }

    /// The label: the root folder's, else the boot sector's; empty where neither has one. Of the two,
    /// what is mounted shows the first, and programs that relabel a volume may leave out the second.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn label(&self, disk: &mut (impl Read + Seek)) -> io::Result<String> {
        let in_root = self.each_entry(disk, Folder::Root, |entry| {
            let attributes = entry[ATTRIBUTES] & ATTRIBUTES_MASK;
            let has_cluster = u16_at(entry, 20) != 0 || u16_at(entry, 26) != 0;
            let is_label = entry[0] != FREE
                && attributes != LONG_NAME
                && attributes & (VOLUME_ID | FOLDER) == VOLUME_ID
                && !has_cluster;
            if is_label {
                ControlFlow::Break(label_of(&entry[..LABEL_LEN]))
            } else {
                ControlFlow::Continue(())
            }
        });
        let in_root = match in_root {
            // What is wrong with the folder, its reader will tell.
            Err(error) if error.kind() == ErrorKind::InvalidData => None,
            other => other?.flatten(),
        };
        let label = in_root.or_else(|| self.boot_label.clone());
        Ok(label.unwrap_or_default())
    }

    /// Hands each entry of a folder up to its end to `visit`, until that has what it wants.
    ///
    /// # Errors
    /// If the disk can't be read, or the folder has no end.
    pub fn each_entry<T>(
        &self,
        disk: &mut (impl Read + Seek),
        folder: Folder,
        mut visit: impl FnMut(&[u8; ENTRY_LEN]) -> ControlFlow<T>,
    ) -> io::Result<Option<T>> {
        let (mut at, mut left, mut cluster) = match folder {
            Folder::Root if self.kind != Kind::Fat32 => (self.root.0, self.root.1, None),
            Folder::Root => self.extent(self.root_cluster)?,
            Folder::Chain(first) => self.extent(first)?,
        };
        let mut read = 0;
        loop {
            let mut piece = [0; PIECE];
            while left > 0 {
                let length = left.min(PIECE as u32);
                let piece = &mut piece[..length as usize];
                read_at(disk, at, piece)?;
                for entry in piece.as_chunks().0 {
                    if entry[0] == 0 {
                        return Ok(None);
                    }
                    if let ControlFlow::Break(found) = visit(entry) {
                        return Ok(Some(found));
                    }
                }
                at += u64::from(length);
                left -= length;
                read += length;
            }
            let Some(last) = cluster else {
                return Ok(None);
            };
            if read >= FOLDER_MAX {
                return Err(damaged("a folder's clusters have no end"));
            }
            match self.next(disk, last)? {
                Some(next) => (at, left, cluster) = self.extent(next)?,
                None => return Ok(None),
            }
        }
    }

    /// Bytes of a cluster.
    #[must_use]
    pub fn cluster_len(&self) -> u32 {
        self.cluster_len
    }

    /// Where a cluster begins, in bytes.
    ///
    /// # Errors
    /// If there is none of this number.
    pub fn place(&self, cluster: u32) -> io::Result<u64> {
        let index = cluster.checked_sub(FIRST_CLUSTER).map(u64::from);
        match index.filter(|index| *index < self.clusters) {
            Some(index) => Ok(self.data + index * u64::from(self.cluster_len)),
            None => Err(damaged(&format!("there is no cluster {cluster}"))),
        }
    }

    /// The cluster that follows this one in its chain; none where it is the last.
    ///
    /// # Errors
    /// If the disk can't be read, or the cluster is free or bad.
    pub fn next(&self, disk: &mut (impl Read + Seek), cluster: u32) -> io::Result<Option<u32>> {
        self.place(cluster)?;
        let number = u64::from(cluster);
        let mut bytes = [0; 4];
        // The last FAT12 entry of a table may be its last two bytes.
        let (at, len) = match self.kind {
            Kind::Fat12 => (number + number / 2, 2),
            Kind::Fat16 => (number * 2, 2),
            Kind::Fat32 => (number * 4, 4),
        };
        read_at(disk, self.table + at, &mut bytes[..len])?;
        let entry = u32::from_le_bytes(bytes);
        let (next, bad) = match self.kind {
            Kind::Fat12 if cluster % 2 == 1 => (entry >> 4, 0xff7),
            Kind::Fat12 => (entry & 0xfff, 0xff7),
            Kind::Fat16 => (entry, 0xfff7),
            // The highest four bits are reserved.
            Kind::Fat32 => (entry & 0x0fff_ffff, 0x0fff_fff7),
        };
        match next {
            _ if next > bad => Ok(None),
            _ if next == bad => Err(damaged("a chain has a bad cluster")),
            0 => Err(damaged("a chain ends in a free cluster")),
            _ => Ok(Some(next)),
        }
    }

    /// A cluster as a part of a folder.
    fn extent(&self, cluster: u32) -> io::Result<(u64, u32, Option<u32>)> {
        Ok((self.place(cluster)?, self.cluster_len, Some(cluster)))
    }
}

/// Whether the sector says that it is a FAT's, by name or as one that can be booted. Others have such a
/// sector for show (libblkid, `fat_valid_superblock`).
fn is_marked(boot: &[u8; 512]) -> bool {
    let named = |at: usize, names: &[&str]| {
        let starts = |name: &&str| boot[at..].starts_with(name.as_bytes());
        names.iter().any(starts)
    };
    named(82, &["FAT32   ", "MSWIN"])
        || named(54, &["FAT12   ", "FAT16   ", "FAT     ", "MSDOS"])
        || (boot[510..] == [0x55, 0xaa] && !named(54, &["JFS     ", "HPFS    "]))
}

fn label_of(field: &[u8]) -> Option<String> {
    let label = text(field);
    (!label.is_empty() && label != NO_NAME).then_some(label)
}

#[cfg(test)]
mod tests;
