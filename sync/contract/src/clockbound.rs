//! ClockBound's shared memory segment, version 2: how programs of the guest ask for the time with its
//! bound, by the crate `clock-bound-client` 2 or its C twin.
//!
//! The layout is that of `clock-bound-shm` 2.0 (`shm_header.rs`, and `ClockErrorBound` in `lib.rs`); all
//! numbers are the machine's own, little-endian on x86-64:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | the magic numbers 0x414D5A4E and 0x43420200 |
//! | 8..12 | the segment's length in bytes |
//! | 12..14 | the layout's version: 2 |
//! | 14..16 | the generation: odd while the rest is being written, never 0 once it was |
//! | 16..32 | `as_of`: seconds and nanoseconds of CLOCK_MONOTONIC_COARSE |
//! | 32..48 | `void_after`, likewise |
//! | 48..56 | the bound at `as_of` in nanoseconds |
//! | 56..64 | the VMClock's disruption marker that the writer has dealt with |
//! | 64..68 | by how much the bound grows per second, in ppb |
//! | 68..72 | the status |
//! | 72 | whether a reader is to compare the marker with that of `/dev/vmclock0` |
//!
//! A reader takes CLOCK_REALTIME, then CLOCK_MONOTONIC_COARSE, and answers REALTIME ± (bound + growth ×
//! (COARSE - `as_of`)). It refuses a COARSE that is more than 1 us before `as_of`. 5 s after `as_of` it
//! calls a synchronized clock free-running, and after `void_after` unknown.

use crate::units::Nanos;

/// The folder of the segment, in which services can write nothing.
pub const FOLDER: &str = "/run/clockbound";

/// The segment. Readers look for it at `/var/run/clockbound/shm0`.
pub const PATH: &str = "/run/clockbound/shm0";

/// The segment's length in bytes, and in the words of [`Segment::words`].
pub const LEN: usize = 8 * WORDS;

/// See [`LEN`].
pub const WORDS: usize = 10;

/// The word that has the generation in its highest 16 bits.
pub const GENERATION_WORD: usize = 1;

/// The steepest growth that readers accept is below one second per second.
pub const GROWTH_MAX_PPB: u32 = 999_999_999;

const MAGIC: u64 = 0x4342_0200_414D_5A4E;
const VERSION: u64 = 2;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// What readers are told of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockStatus {
    /// Nothing is known: the interval is not to be trusted.
    #[default]
    Unknown = 0,
    /// The clock follows its source: the interval can be trusted.
    Synchronized = 1,
    /// It follows none at present, and its bound grows: the interval can be trusted.
    FreeRunning = 2,
    /// It was disturbed: the interval is not to be trusted.
    Disrupted = 3,
}

/// What the segment says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// CLOCK_MONOTONIC_COARSE at which the bound holds.
    pub as_of: Nanos,
    /// CLOCK_MONOTONIC_COARSE from which on nothing of it holds.
    pub void_after: Nanos,
    /// The largest error of CLOCK_REALTIME at `as_of`.
    pub bound: Nanos,
    /// The growth of the bound in ppb, at most [`GROWTH_MAX_PPB`].
    pub growth_ppb: u32,
    /// How the clock stands.
    pub status: ClockStatus,
    /// The disruption marker of `/dev/vmclock0` that all of this takes into account; none where readers
    /// have no such device to compare it with.
    pub marker: Option<u64>,
}

impl Segment {
    /// The segment with this generation, as words of the machine.
    #[must_use]
    pub fn words(&self, generation: u16) -> [u64; WORDS] {
        let growth = self.growth_ppb.min(GROWTH_MAX_PPB);
        [
            MAGIC,
            header(generation),
            seconds(self.as_of),
            nanoseconds(self.as_of),
            seconds(self.void_after),
            nanoseconds(self.void_after),
            self.bound.0 as u64,
            self.marker.unwrap_or(0),
            u64::from(growth) | (self.status as u64) << 32,
            u64::from(self.marker.is_some()),
        ]
    }
}

/// The word [`GENERATION_WORD`].
#[must_use]
pub fn header(generation: u16) -> u64 {
    LEN as u64 | VERSION << 32 | u64::from(generation) << 48
}

/// The generation that says that what follows one that is whole is being written.
#[must_use]
pub fn unfinished(generation: u16) -> u16 {
    generation | 1
}

/// The generation after an unfinished one: even, and never 0, which would mean that nothing was
/// written yet.
#[must_use]
pub fn finished(generation: u16) -> u16 {
    match generation.wrapping_add(1) {
        0 => 2,
        next => next,
    }
}

fn seconds(time: Nanos) -> u64 {
    time.0.div_euclid(NANOS_PER_SECOND) as u64
}

fn nanoseconds(time: Nanos) -> u64 {
    time.0.rem_euclid(NANOS_PER_SECOND) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_lies_at_its_place() {
        let segment = Segment {
            as_of: Nanos(3_000_000_004),
            void_after: Nanos(13_000_000_005),
            bound: Nanos(0x0102_0304_0506_0708),
            growth_ppb: 15_000,
            status: ClockStatus::Disrupted,
            marker: Some(0x1122_3344_5566_7788),
        };
        let bytes: [u8; LEN] = core::array::from_fn(|i| {
            let words = segment.words(0xABCD);
            words[i / 8].to_le_bytes()[i % 8]
        });
        assert_eq!(bytes[..8], [0x4E, 0x5A, 0x4D, 0x41, 0x00, 0x02, 0x42, 0x43]);
        assert_eq!(bytes[8..16], [80, 0, 0, 0, 2, 0, 0xCD, 0xAB]);
        assert_eq!((bytes[16], bytes[24]), (3, 4));
        assert_eq!((bytes[32], bytes[40]), (13, 5));
        assert_eq!(bytes[48..56], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(
            bytes[56..64],
            [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]
        );
        assert_eq!(bytes[64..72], [0x98, 0x3A, 0, 0, 3, 0, 0, 0]);
        assert_eq!(bytes[72..], [1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_generation_is_odd_while_it_is_written_and_never_again_zero() {
        let mut generation = 0;
        for _ in 0..70_000 {
            let writing = unfinished(generation);
            let next = finished(writing);
            assert!(writing & 1 == 1 && next & 1 == 0 && next != 0 && next != generation);
            generation = next;
        }
    }

    #[test]
    fn a_growth_that_readers_would_refuse_is_cut() {
        let segment = Segment {
            growth_ppb: u32::MAX,
            ..Segment::default()
        };
        assert_eq!(segment.words(2)[8], u64::from(GROWTH_MAX_PPB));
    }
}
