//! The datagrams by which a program hands clock samples to PID 1: those of chrony's SOCK refclock
//! (refclock_sock.c, `struct sock_sample` on a 64-bit machine), with what that lacks at their end.
//!
//! chrony's 40 bytes tell `CLOCK_REALTIME` at the sample and what has to be added to it. That is
//! spoilt by a step between the sample and its receipt, and says nothing of how good it is; so 16
//! bytes follow: `CLOCK_MONOTONIC_RAW` at the sample, and the bound of its error, both as 64-bit
//! nanoseconds. All is in the machine's byte order, since both ends are on it.
//!
//! The client's end of the socket is its standard input, so that nobody else can reach PID 1's.

use crate::units::{Nanos, Raw, Utc};

/// The length of a datagram, in bytes; a longer one is none.
pub const SAMPLE_LEN: usize = 56;

/// `SOCK_MAGIC` of chrony.
const MAGIC: i32 = 0x534f_434b;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// `CLOCK_REALTIME` at the sample; only chrony's part needs it.
    pub realtime: Utc,
    /// The reference's time then.
    pub reference: Utc,
    /// `CLOCK_MONOTONIC_RAW` then.
    pub raw: Raw,
    /// The largest error that `reference` can have.
    pub bound: Nanos,
}

impl Sample {
    /// The datagram.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SAMPLE_LEN] {
        let mut bytes = [0; SAMPLE_LEN];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        let seconds = self.realtime.0.div_euclid(NANOS_PER_SECOND);
        let micros = self.realtime.0.rem_euclid(NANOS_PER_SECOND) / 1_000;
        let offset =
            (self.reference - Utc(seconds * NANOS_PER_SECOND + micros * 1_000)).as_secs_f64();
        put(0, &seconds.to_ne_bytes());
        put(8, &micros.to_ne_bytes());
        put(16, &offset.to_ne_bytes());
        // No pulse, no leap second announced, padding: zeros.
        put(36, &MAGIC.to_ne_bytes());
        put(40, &self.raw.0.to_ne_bytes());
        put(48, &self.bound.0.to_ne_bytes());
        bytes
    }

    /// Reads a datagram; none where it is no sample, or one of a pulse, which has no whole time, or one that
    /// is further off than 64 bits of nanoseconds tell.
    ///
    /// The reference's time is right to a microsecond and the rounding of chrony's `double`, which
    /// the bound is widened by.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SAMPLE_LEN] = bytes.try_into().ok()?;
        let eight = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            field
        };
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let (seconds, micros) = (i64::from_ne_bytes(eight(0)), i64::from_ne_bytes(eight(8)));
        let offset = f64::from_ne_bytes(eight(16));
        let pulse = i32::from_ne_bytes(four(24));
        let whole = i32::from_ne_bytes(four(36)) == MAGIC
            && pulse == 0
            && (0..1_000_000).contains(&micros)
            // Of what is no number neither comparison holds.
            && libm::fabs(offset) * 1e9 < i64::MAX as f64;
        if !whole {
            return None;
        }
        let realtime = Utc(seconds.checked_mul(NANOS_PER_SECOND)?) + Nanos(micros * 1_000);
        // A double has 53 bits: offsets of years come in steps of some ten nanoseconds.
        let rounding = Nanos((libm::fabs(offset) * 1e9 * f64::EPSILON) as i64 + 1);
        let bound = Nanos(i64::from_ne_bytes(eight(48)));
        (bound >= Nanos::ZERO).then_some(Self {
            realtime,
            reference: realtime + Nanos(libm::round(offset * 1e9) as i64),
            raw: Raw(i64::from_ne_bytes(eight(40))),
            bound: bound + rounding,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_forty_bytes_are_chronys() {
        let sample = Sample {
            realtime: Utc(1_800_000_000_250_000_000),
            reference: Utc(1_800_000_001_500_000_000),
            raw: Raw(77),
            bound: Nanos(88),
        };
        let bytes = sample.to_bytes();
        assert_eq!(bytes[0..8], 1_800_000_000_i64.to_ne_bytes());
        assert_eq!(bytes[8..16], 250_000_i64.to_ne_bytes());
        assert_eq!(bytes[16..24], 1.25_f64.to_ne_bytes());
        assert_eq!(bytes[24..36], [0; 12]);
        assert_eq!(bytes[36..40], 0x534f_434b_i32.to_ne_bytes());
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let sample = Sample {
            realtime: Utc(5),
            reference: Utc(6),
            raw: Raw(7),
            bound: Nanos(8),
        };
        let change = |at: usize, field: &[u8]| {
            let mut bytes = sample.to_bytes();
            bytes[at..at + field.len()].copy_from_slice(field);
            Sample::from_bytes(&bytes)
        };
        assert!(change(0, &[]).is_some());
        assert_eq!(change(36, &[0]), None);
        assert_eq!(change(24, &1_i32.to_ne_bytes()), None);
        assert_eq!(change(8, &1_000_000_i64.to_ne_bytes()), None);
        for offset in [f64::NAN, f64::INFINITY, 1e226, -1e10] {
            assert_eq!(change(16, &offset.to_ne_bytes()), None);
        }
        assert_eq!(change(48, &(-1_i64).to_ne_bytes()), None);
        assert_eq!(Sample::from_bytes(&sample.to_bytes()[..40]), None);
    }

    proptest! {
        #[test]
        fn a_sample_comes_back_within_its_widened_bound(
            realtime in 0_i64..4_000_000_000_000_000_000,
            reference in 0_i64..4_000_000_000_000_000_000,
            raw: i64,
            bound in 0_i64..1_000_000_000,
        ) {
            let sample = Sample {
                realtime: Utc(realtime),
                reference: Utc(reference),
                raw: Raw(raw),
                bound: Nanos(bound),
            };
            let read = Sample::from_bytes(&sample.to_bytes()).unwrap();
            prop_assert_eq!(read.raw, sample.raw);
            prop_assert!((read.reference - sample.reference).abs() + sample.bound <= read.bound);
        }

        #[test]
        fn no_datagram_upsets_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Sample::from_bytes(&bytes);
        }

        #[test]
        fn nor_does_one_of_the_right_shape(
            mut bytes in prop::collection::vec(any::<u8>(), SAMPLE_LEN),
        ) {
            bytes[24..28].fill(0);
            bytes[36..40].copy_from_slice(&MAGIC.to_ne_bytes());
            let _ = Sample::from_bytes(&bytes);
        }
    }
}
