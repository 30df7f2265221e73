//! Google Compute Engine's: a file `disk.raw` of a whole number of GiB in a gzipped tar archive of GNU's old format.
//!
//! Zeros are left out, as `tar --sparse` does it (GNU tar manual, "Old GNU Format"): the header has a map of up to
//! four parts of the file, and the archive only these.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};

use super::bytes::{FormatError, is_zero, pad, whole};
use crate::disk;

const BLOCK: usize = 512;
const GIB: usize = 1 << 30;
/// Zeros are looked for in pieces of this.
const PIECE: usize = 1 << 20;
/// Parts that a header has room for.
const PARTS: usize = 4;
/// An archive's length is a multiple of this.
const RECORD: usize = 20 * BLOCK;

pub fn write(disk: &[u8], source_date: u32) -> Result<Vec<u8>, FormatError> {
    whole(disk, BLOCK, "512-byte sectors")?;
    let disk = disk::grow(disk, disk.len().next_multiple_of(GIB))?;
    let parts = parts(&disk);
    let mut archive = header(&parts, disk.len(), source_date);
    for (at, len) in &parts {
        archive.extend_from_slice(&disk[*at..at + len]);
    }
    archive.extend([0; 2 * BLOCK]);
    pad(&mut archive, RECORD);
    // A name of no file and no time, so that the same disk has the same archive.
    let mut packer = GzBuilder::new().write(Vec::new(), Compression::default());
    packer.write_all(&archive)?;
    Ok(packer.finish()?)
}

/// The parts of the disk that aren't zeros, the last of which ends where the disk does. Of more than a header has
/// room for, the last ones are one.
fn parts(disk: &[u8]) -> Vec<(usize, usize)> {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for (at, piece) in (0..).step_by(PIECE).zip(disk.chunks(PIECE)) {
        if is_zero(piece) {
            continue;
        }
        match parts.last_mut() {
            Some((from, len)) if *from + *len == at => *len += piece.len(),
            _ => parts.push((at, piece.len())),
        }
    }
    let last = parts.last().copied().unwrap_or_default();
    if last.0 + last.1 < disk.len() {
        parts.push((disk.len(), 0));
    }
    if parts.len() > PARTS {
        let from = parts[PARTS - 1].0;
        parts.truncate(PARTS - 1);
        parts.push((from, disk.len() - from));
    }
    parts
}

fn header(parts: &[(usize, usize)], size: usize, source_date: u32) -> Vec<u8> {
    let mut map = Vec::new();
    for (at, len) in parts {
        map.extend(octal(*at as u64, 12));
        map.extend(octal(*len as u64, 12));
    }
    map.resize(PARTS * 24, 0);
    let stored: usize = parts.iter().map(|(_, len)| len).sum();
    let mut name = b"disk.raw".to_vec();
    name.resize(100, 0);
    let fields: [Vec<u8>; 13] = [
        name,
        octal(0o644, 8),
        octal(0, 8),
        octal(0, 8),
        octal(stored as u64, 12),
        octal(source_date.into(), 12),
        b"        ".to_vec(), // the checksum, which counts itself as blanks
        b"S".to_vec(),
        vec![0; 100],
        b"ustar  \0".to_vec(),
        vec![0; 121],
        [map, vec![0]].concat(), // no further map
        octal(size as u64, 12),
    ];
    let mut header = fields.concat();
    header.resize(BLOCK, 0);
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(&[octal(sum, 7), vec![b' ']].concat());
    header
}

/// A number in `width` bytes, the last of which is a zero.
fn octal(number: u64, width: usize) -> Vec<u8> {
    let digits = width - 1;
    format!("{number:0digits$o}\0").into_bytes()
}
