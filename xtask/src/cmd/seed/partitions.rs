//! The parts of a disk's image that a guest's kernel would show as disks of their own: what a partition
//! table, GPT's or an MBR's, has room for.

use std::io::{self, Read, Seek, SeekFrom};

/// The unit of an MBR's numbers, and of a GPT's on most disks; bytes.
const SECTOR: u64 = 512;

/// The other sector that disks with a GPT have.
const LARGE_SECTOR: u64 = 4096;

/// How many partitions are looked at, and the longest entry of a GPT.
const PARTITIONS_MAX: u32 = 128;
const ENTRY_MAX: u32 = 4096;

/// The type of the one partition that an MBR before a GPT has.
const PROTECTIVE: u8 = 0xee;

/// Where a partition is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub start: u64,
    pub length: u64,
}

/// The partitions of a disk; none where it has no table.
pub fn partitions(disk: &mut (impl Read + Seek)) -> io::Result<Vec<Extent>> {
    let mut mbr = [0; SECTOR as usize];
    if !read_at(disk, 0, &mut mbr)? || mbr[510..] != [0x55, 0xaa] {
        return Ok(Vec::new());
    }
    let entries = mbr[446..510].as_chunks::<16>().0;
    if entries.iter().any(|entry| entry[4] == PROTECTIVE) {
        for sector in [SECTOR, LARGE_SECTOR] {
            if let Some(found) = gpt(disk, sector)? {
                return Ok(found);
            }
        }
    }
    let number = |bytes: &[u8]| u64::from(u32_at(bytes, 0));
    let extents = entries
        .iter()
        .filter(|entry| entry[4] != 0)
        .map(|entry| Extent {
            start: number(&entry[8..]) * SECTOR,
            length: number(&entry[12..]) * SECTOR,
        });
    Ok(extents.filter(|extent| extent.start > 0).collect())
}

/// A GPT's partitions (UEFI 2.10, 5.3); none where there is none.
fn gpt(disk: &mut (impl Read + Seek), sector: u64) -> io::Result<Option<Vec<Extent>>> {
    let mut header = [0; 92];
    if !read_at(disk, sector, &mut header)? || !header.starts_with(b"EFI PART") {
        return Ok(None);
    }
    let (at, count, length) = (
        u64_at(&header, 72),
        u32_at(&header, 80),
        u32_at(&header, 84),
    );
    let mut found = Vec::new();
    let mut entry = vec![0; length.clamp(128, ENTRY_MAX) as usize];
    for index in 0..count.min(PARTITIONS_MAX) {
        let place = at.saturating_mul(sector);
        let place = place.saturating_add(u64::from(index) * u64::from(length));
        if !read_at(disk, place, &mut entry)? {
            break;
        }
        let (first, last) = (u64_at(&entry, 32), u64_at(&entry, 40));
        if entry[..16] != [0; 16] && first > 0 && first <= last {
            found.push(Extent {
                start: first.saturating_mul(sector),
                length: (last - first).saturating_add(1).saturating_mul(sector),
            });
        }
    }
    Ok(Some(found))
}

/// Whether the disk has bytes there, which are read.
fn read_at(disk: &mut (impl Read + Seek), at: u64, bytes: &mut [u8]) -> io::Result<bool> {
    disk.seek(SeekFrom::Start(at))?;
    match disk.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A part of a disk, as a disk.
#[derive(Debug)]
pub struct Part<D> {
    disk: D,
    extent: Extent,
    at: u64,
}

impl<D> Part<D> {
    pub fn new(disk: D, extent: Extent) -> Self {
        Self {
            disk,
            extent,
            at: 0,
        }
    }
}

impl<D: Read + Seek> Read for Part<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.extent.length.saturating_sub(self.at);
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let place = self.extent.start.saturating_add(self.at);
        self.disk.seek(SeekFrom::Start(place))?;
        let count = self.disk.read(&mut buffer[..wanted])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl<D> Seek for Part<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.extent.length.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A disk with an MBR that has these partitions: type, first sector, sectors.
    fn mbr(entries: &[(u8, u32, u32)]) -> Vec<u8> {
        let mut disk = vec![0; 64 * SECTOR as usize];
        for (place, (kind, first, count)) in entries.iter().enumerate() {
            let entry = &mut disk[446 + 16 * place..][..16];
            entry[4] = *kind;
            entry[8..12].copy_from_slice(&first.to_le_bytes());
            entry[12..].copy_from_slice(&count.to_le_bytes());
        }
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk
    }

    fn found(disk: Vec<u8>) -> Vec<(u64, u64)> {
        let found = partitions(&mut Cursor::new(disk)).unwrap();
        let sectors = |extent: &Extent| (extent.start / SECTOR, extent.length / SECTOR);
        found.iter().map(sectors).collect()
    }

    #[test]
    fn partitions_are_told_from_either_table() {
        let disk = mbr(&[(0x0c, 8, 16), (0, 1, 1), (0x83, 24, 8)]);
        assert_eq!(found(disk), [(8, 16), (24, 8)]);
        assert_eq!(found(vec![0; 4096]), []);
        assert_eq!(found(vec![0x55, 0xaa]), []);
        for (sector, at) in [(SECTOR, 512), (LARGE_SECTOR, 4096)] {
            let mut disk = mbr(&[(PROTECTIVE, 1, 63)]);
            disk[at..at + 8].copy_from_slice(b"EFI PART");
            disk[at + 72] = 2;
            disk[at + 80..at + 82].copy_from_slice(&[4, 0]);
            disk[at + 84] = 128;
            let entry = &mut disk[2 * at..][..128];
            entry[0] = 1;
            (entry[32], entry[40]) = (6, 7);
            let expected = (6 * sector / SECTOR, 2 * sector / SECTOR);
            assert_eq!(found(disk), [expected]);
        }
    }

    #[test]
    fn no_table_is_followed_beyond_the_disk() {
        let mut disk = mbr(&[(PROTECTIVE, 1, u32::MAX)]);
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[584..].fill(0xff);
        let mut disk = Cursor::new(disk);
        assert_eq!(partitions(&mut disk).unwrap(), []);
        let extent = Extent {
            start: u64::MAX - 1,
            length: u64::MAX,
        };
        let mut part = Part::new(disk, extent);
        assert_eq!(part.read(&mut [0; 8]).unwrap(), 0);
        assert!(part.seek(SeekFrom::End(1)).is_err());
    }
}
