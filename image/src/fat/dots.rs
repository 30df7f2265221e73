//! Puts a folder's `.` and `..` where the FAT specification (Microsoft, fatgen103, "Directory
//! entry") wants them.
//!
//! fatfs 0.3 writes them as it writes any entry, each with a long name before it. The specification
//! has them as the first two entries and without long names; firmware does not mind, but fsck.fat
//! reports every folder.

use std::ops::Range;

const ENTRY_LEN: usize = 32;
const DOT: &[u8; 11] = b".          ";
const DOT_DOT: &[u8; 11] = b"..         ";
/// The first byte of an entry that is free, with entries after it.
const FREE: u8 = 0xe5;
const ATTRIBUTES: usize = 11;
const ATTRIBUTE_FOLDER: u8 = 0x10;
const ATTRIBUTES_LONG_NAME: u8 = 0x0f;

/// Where the parts of a FAT16 volume lie, in bytes.
struct Layout {
    fat: usize,
    root: Range<usize>,
    cluster_len: usize,
}

/// Sets all folders of a FAT16 volume right that fatfs has just written. None if the volume is not
/// one that it wrote.
pub fn set_right(volume: &mut [u8]) -> Option<()> {
    let layout = Layout::of(volume)?;
    // Each folder is visited once: the tree that was just written has no loops.
    let mut to_visit = folders_in(volume, layout.root.clone());
    while let Some(first_cluster) = to_visit.pop() {
        let extents = layout.extents(volume, first_cluster)?;
        for extent in &extents {
            to_visit.extend(folders_in(volume, extent.clone()));
        }
        let start = extents.first()?.start;
        let head = volume.get_mut(start..start + 4 * ENTRY_LEN)?;
        let (long_and_dot, long_and_dot_dot) = head.split_at_mut(2 * ENTRY_LEN);
        let dot = &long_and_dot[ENTRY_LEN..];
        let dot_dot = &long_and_dot_dot[ENTRY_LEN..];
        if !dot.starts_with(DOT) || !dot_dot.starts_with(DOT_DOT) {
            return None;
        }
        let (dot, dot_dot) = (dot.to_vec(), dot_dot.to_vec());
        head.fill(0);
        head[..ENTRY_LEN].copy_from_slice(&dot);
        head[ENTRY_LEN..2 * ENTRY_LEN].copy_from_slice(&dot_dot);
        head[2 * ENTRY_LEN] = FREE;
        head[3 * ENTRY_LEN] = FREE;
    }
    Some(())
}

impl Layout {
    fn of(volume: &[u8]) -> Option<Self> {
        let byte = |at: usize| volume.get(at).copied().map(usize::from);
        let word = |at| word(volume, at).map(usize::from);
        let sector_len = word(11)?;
        let fat = word(14)? * sector_len;
        let root_start = fat + byte(16)? * word(22)? * sector_len;
        Some(Self {
            fat,
            root: root_start..root_start + word(17)? * ENTRY_LEN,
            cluster_len: byte(13)? * sector_len,
        })
    }

    /// The byte ranges of a cluster chain.
    fn extents(&self, volume: &[u8], first_cluster: u16) -> Option<Vec<Range<usize>>> {
        let mut extents = Vec::new();
        let mut cluster = first_cluster;
        while (2..0xfff0).contains(&cluster) {
            let start = self.root.end + (usize::from(cluster) - 2) * self.cluster_len;
            let extent = start..start + self.cluster_len;
            if extents.contains(&extent) {
                return None;
            }
            extents.push(extent);
            cluster = word(volume, self.fat + 2 * usize::from(cluster))?;
        }
        Some(extents)
    }
}

/// The first clusters of the folders whose entries lie in this range, `.` and `..` left out.
fn folders_in(volume: &[u8], entries: Range<usize>) -> Vec<u16> {
    let entries = volume.get(entries).unwrap_or_default();
    entries
        .chunks_exact(ENTRY_LEN)
        .take_while(|entry| entry[0] != 0)
        .filter(|entry| {
            let attributes = entry[ATTRIBUTES];
            entry[0] != FREE
                && entry[0] != b'.'
                && attributes != ATTRIBUTES_LONG_NAME
                && attributes & ATTRIBUTE_FOLDER != 0
        })
        .map(|entry| u16::from_le_bytes([entry[26], entry[27]]))
        .collect()
}

fn word(volume: &[u8], at: usize) -> Option<u16> {
    volume
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_le_bytes)
}
