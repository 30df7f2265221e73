//! VHD of fixed size (Microsoft, Virtual Hard Disk Image Format Specification 1.0): the disk, and a footer.
//! Azure takes no other, and wants a whole number of MiB.

use uuid::Uuid;

use super::bytes::{FormatError, whole};

/// 2000-01-01, from which the format counts seconds.
const EPOCH: u32 = 946_684_800;

/// Sectors of 512 bytes that a geometry can tell at most.
const MAX_SECTORS: u64 = 65_535 * 16 * 255;

const FOOTER_LEN: usize = 512;

/// Where the checksum is, which doesn't count itself.
const CHECKSUM_AT: usize = 64;

pub fn write(disk: &[u8], source_date: u32, id: Uuid) -> Result<Vec<u8>, FormatError> {
    let size = whole(disk, 1 << 20, "MiB")?;
    let created = source_date.saturating_sub(EPOCH);
    let (cylinders, heads, sectors) = geometry(size / 512);
    let parts: [&[u8]; 17] = [
        b"conectix",
        &2u32.to_be_bytes(), // no features; this bit is always set
        &0x0001_0000u32.to_be_bytes(),
        &u64::MAX.to_be_bytes(), // no further header
        &created.to_be_bytes(),
        // QEMU takes a disk's size from its geometry, which is rounded, unless it knows the creator.
        b"win ",
        &0x000a_0000u32.to_be_bytes(),
        b"Wi2k",
        &size.to_be_bytes(),
        &size.to_be_bytes(),
        &cylinders.to_be_bytes(),
        &[heads, sectors],
        &2u32.to_be_bytes(), // of fixed size
        &[0; 4],
        id.as_bytes(),
        &[0], // not saved in the middle of a run
        &[0; 427],
    ];
    let mut footer = parts.concat();
    debug_assert_eq!(footer.len(), FOOTER_LEN);
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&(!sum).to_be_bytes());
    Ok([disk, &footer].concat())
}

/// Cylinders, heads and sectors, as the specification's appendix reckons them.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let total = sectors.min(MAX_SECTORS);
    let (heads, per_track) = if total >= 65_535 * 16 * 63 {
        (16, 255)
    } else {
        let tracks = total / 17;
        let heads = tracks.div_ceil(1024).max(4);
        if tracks < heads * 1024 && heads <= 16 {
            (heads, 17)
        } else if total / 31 < 16 * 1024 {
            (16, 31)
        } else {
            (16, 63)
        }
    };
    let cylinders = total / per_track / heads;
    (cylinders as u16, heads as u8, per_track as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometries_are_those_of_the_specification() {
        // 17 MiB, 1 GiB, 127 GiB, and the largest there is.
        assert_eq!(geometry(34_816), (512, 4, 17));
        assert_eq!(geometry(2 << 20), (2_080, 16, 63));
        assert_eq!(geometry(127 << 21), (65_278, 16, 255));
        assert_eq!(geometry(1 << 40), (65_535, 16, 255));
    }
}
