//! Bytes of a disk, and the numbers and texts in them.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// Fills `buffer` from this byte on.
///
/// # Errors
/// If the disk can't be read, or ends before.
pub fn read_at(disk: &mut (impl Read + Seek), at: u64, buffer: &mut [u8]) -> io::Result<()> {
    if is_there(disk, at, buffer)? {
        Ok(())
    } else {
        Err(damaged("the disk ends before what it says is on it"))
    }
}

/// As [`read_at`]; false where the disk ends before.
///
/// # Errors
/// If the disk can't be read.
pub fn is_there(disk: &mut (impl Read + Seek), at: u64, buffer: &mut [u8]) -> io::Result<bool> {
    // A place beyond what a file can have is none that a disk has.
    if i64::try_from(at).is_err() {
        return Ok(false);
    }
    disk.seek(SeekFrom::Start(at))?;
    match disk.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The error for a file system that contradicts itself.
#[must_use]
pub fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("damaged: {what}"))
}

/// The little-endian number of two bytes at this place; 0 beyond the end.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let there = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u16::from_le_bytes(there.copied().unwrap_or_default())
}

/// The little-endian number of four bytes at this place; 0 beyond the end.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let there = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(there.copied().unwrap_or_default())
}

/// A label up to its first zero, without the blanks at its end.
#[must_use]
pub fn text(field: &[u8]) -> String {
    let used = field.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(used).trim_end().to_owned()
}

/// A label or name in big-endian UTF-16, up to its first zero, without the blanks at its end.
#[must_use]
pub fn utf16(field: &[u8]) -> String {
    let (units, _) = field.as_chunks();
    let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
    let used: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&used).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_ends_at_its_first_zero_or_its_last_blanks() {
        for field in [
            &b"cidata"[..],
            b"cidata   ",
            b"cidata\0\0\0",
            b"cidata  \0rest",
        ] {
            assert_eq!(text(field), "cidata");
        }
        assert_eq!(utf16(b"\0c\0i\0 \0\0\0x"), "ci");
    }

    #[test]
    fn numbers_beyond_the_end_are_zero() {
        assert_eq!((u16_at(&[1, 2], 0), u16_at(&[1, 2], 1)), (0x201, 0));
        assert_eq!(
            (u32_at(&[1, 2, 3, 4], 0), u32_at(&[1], usize::MAX)),
            (0x0403_0201, 0)
        );
    }
}
