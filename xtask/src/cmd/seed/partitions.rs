//! The parts of a disk's image that a guest's kernel would show as disks of their own: what a partition
//! table, GPT's or an MBR's, has room for.

use std::io::{self, Read, Seek, SeekFrom};

use noonmark_image::disk::{self, Extent};

/// The unit of an MBR's numbers, in bytes.
const SECTOR: u64 = 512;

/// The type of the one partition that an MBR before a GPT has.
const PROTECTIVE: u8 = 0xee;

/// The partitions of a disk; none where it has no table.
pub fn partitions(disk: &mut (impl Read + Seek)) -> io::Result<Vec<Extent>> {
    let mut mbr = [0; SECTOR as usize];
    if !read_at(disk, 0, &mut mbr)? || mbr[510..] != [0x55, 0xaa] {
        return Ok(Vec::new());
    }
    let entries = mbr[446..510].as_chunks::<16>().0;
    if entries.iter().any(|entry| entry[4] == PROTECTIVE)
        && let Some(found) = disk::extents(disk)
    {
        return Ok(found);
    }
    let number =
        |bytes: &[u8]| u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let extents = entries
        .iter()
        .filter(|entry| entry[4] != 0)
        .map(|entry| Extent {
            start: number(&entry[8..]) * SECTOR,
            length: number(&entry[12..]) * SECTOR,
        });
    Ok(extents.filter(|extent| extent.start > 0).collect())
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
        let volume = [1; SECTOR as usize];
        let whole = disk::write(&volume).unwrap();
        assert_eq!(found(whole.clone()), [(2048, 1)]);
        // A table that isn't whole is none; what stands before it is all that is left.
        let mut broken = whole;
        broken[2 * SECTOR as usize] ^= 1;
        assert_eq!(found(broken), [(1, 4095)]);
    }

    #[test]
    fn no_table_is_followed_beyond_the_disk() {
        let disk = Cursor::new(mbr(&[(0x0c, 8, u32::MAX)]));
        let extent = Extent {
            start: u64::MAX - 1,
            length: u64::MAX,
        };
        let mut part = Part::new(disk, extent);
        assert_eq!(part.read(&mut [0; 8]).unwrap(), 0);
        assert!(part.seek(SeekFrom::End(1)).is_err());
    }
}
