//! Compression: of the initrd, and out of packages. One thread, fixed levels, no dates, so that the
//! same input gives the same bytes.

use std::io::{self, Read, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use lzma_rust2::{CheckType, XzOptions, XzReader, XzWriter};
use serde::{Deserialize, Serialize};

/// `zstd`'s level: the highest that needs no larger window than any kernel gives (8 MiB).
const ZSTD_LEVEL: i32 = 19;

/// `xz`'s preset; a higher one only takes a larger dictionary than an initrd can fill.
const XZ_PRESET: u32 = 6;

/// What an xz decoder may take, in KiB: enough for preset 9.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// How an initrd is compressed; the kernel must be able to read it.
///
/// The default is chosen by measurement: the initrd of a base image with Debian's kernel 6.1, its
/// size, and how many instructions the kernel takes to unpack it (QEMU's `-icount shift=0`, where
/// the whole way to PID 1 is 1.6 thousand million).
///
/// | | KiB | instructions, million |
/// |---|---|---|
/// | none | 1020 | 0 |
/// | gzip | 448 | 39 |
/// | zstd | 392 | 54 |
/// | xz | 365 | 165 |
///
/// Of those that halve it gzip boots soonest, and every kernel reads it; what the others save is
/// less than half a per cent of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// `gzip -9`
    #[default]
    Gzip,
    /// `zstd -19`
    Zstd,
    /// `xz -6 --check=crc32`
    Xz,
}

/// Compresses for the kernel to unpack.
///
/// # Errors
/// What the encoder says; there is none that bytes alone can cause.
pub fn compress(bytes: &[u8], how: Compression) -> io::Result<Vec<u8>> {
    match how {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Compression::Xz => {
            // The kernel's decoder knows no other check than this one.
            let mut options = XzOptions::with_preset(XZ_PRESET);
            options.set_check_sum_type(CheckType::Crc32);
            let mut encoder = XzWriter::new(Vec::new(), options)?;
            encoder.write_all(bytes)?;
            encoder.finish()
        }
    }
}

/// How bytes are compressed, by their first ones.
#[must_use]
pub fn detect(bytes: &[u8]) -> Compression {
    match bytes {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    }
}

/// Unpacks what [`detect`] knows; anything else comes back as it is.
///
/// # Errors
/// Broken data, or more than `limit` bytes of output.
pub fn decompress(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    let size = reader(bytes)?.take(limit + 1).read_to_end(&mut output)?;
    if size as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("unpacks to more than {limit} bytes"),
        ));
    }
    Ok(output)
}

/// A reader of the unpacked bytes.
///
/// # Errors
/// What the decoder says of its own set-up.
pub fn reader<'a>(bytes: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match detect(bytes) {
        Compression::None => Box::new(bytes),
        Compression::Gzip => Box::new(GzDecoder::new(bytes)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(bytes)?),
        Compression::Xz => Box::new(XzReader::new_mem_limit(bytes, true, XZ_MEMORY_KIB)),
    })
}
