//! The bytes of a frame.
//!
//! Frames are 40 bytes, integers big-endian, found again after garbage by their magic and CRC:
//!
//! | bytes | request | answer |
//! |---|---|---|
//! | 0..4 | `NMQ1` | `NMA1` |
//! | 4..8 | sequence number | the same |
//! | 8..16 | t1 | the same |
//! | 16..24 | 0 | t2, ns since 1970 |
//! | 24..32 | 0 | t3, ns since 1970 |
//! | 32..36 | 0 | 0 |
//! | 36..40 | CRC-32 (IEEE) of bytes 0..36 | the same |
//!
//! What a host tells of its clock, `NMC1`, has the sequence number, and from byte 8 on three numbers:
//! maxerror in ns, esterror in ns, and of the third bits 0..32 the TAI offset in seconds, 32..40 the
//! leap second (0 none, 1 one more, 2 one less), bit 40 STA_UNSYNC.

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};

/// Bytes in a frame, either way.
pub const FRAME_LEN: usize = 40;

/// Where the checksum stands.
const CRC_AT: usize = FRAME_LEN - 4;

/// Without a table: PID 1 would carry one of 16 KiB for the few frames that it sees.
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// A kind of frame of the channel.
pub trait Frame: Sized {
    /// Its first four bytes.
    const MAGIC: [u8; 4];

    /// The frame's bytes.
    fn encode(&self) -> [u8; FRAME_LEN];

    /// Makes a frame of its sequence number and the three times, if they can be one.
    fn from_body(sequence: u32, times: [i64; 3]) -> Option<Self>;
}

/// Lays out a frame and closes it with its checksum.
pub(super) fn seal(magic: [u8; 4], sequence: u32, times: [i64; 3]) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[..4].copy_from_slice(&magic);
    frame[4..8].copy_from_slice(&sequence.to_be_bytes());
    for (slot, time) in frame[8..32].chunks_exact_mut(8).zip(times) {
        slot.copy_from_slice(&time.to_be_bytes());
    }
    let crc = CRC.checksum(&frame[..CRC_AT]);
    frame[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    frame
}

/// Takes a frame apart whose magic, filler and checksum are right.
pub(super) fn open(magic: [u8; 4], frame: &[u8; FRAME_LEN]) -> Option<(u32, [i64; 3])> {
    let (body, crc) = frame.split_at(CRC_AT);
    let sound =
        frame[..4] == magic && frame[32..36] == [0; 4] && crc == CRC.checksum(body).to_be_bytes();
    if !sound {
        return None;
    }
    let time = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&frame[at..at + 8]);
        i64::from_be_bytes(bytes)
    };
    let sequence = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
    Some((sequence, [time(8), time(16), time(24)]))
}
