//! The NTP packet of 48 bytes (RFC 5905, 7.3), as far as a client needs it.

use core::fmt;

use crate::units::{Nanos, Utc};

/// The length of a packet without extensions, in bytes.
pub const PACKET_LEN: usize = 48;

/// Version 4, mode 3: client.
const CLIENT: u8 = (4 << 3) | 3;

/// From 1900, where NTP's first era begins, to 1970, in seconds.
const ERA_TO_UNIX_S: i64 = 2_208_988_800;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// How long before the image was built a server's time may lie and still be read as such: 20 years.
/// A server so wrong is no use, but it is to be seen as one that is behind, not one that is a
/// century ahead.
const BEFORE_BUILT: Nanos = Nanos::from_secs(20 * 31_557_600);

/// What a server answered, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// How many servers lie between this one and its clock, 1..=15.
    pub stratum: u8,
    /// When the request came in, by the server's clock (T2).
    pub received: Utc,
    /// When the answer left (T3).
    pub sent: Utc,
    /// The delay from the server to its reference clock and back.
    pub root_delay: Nanos,
    /// How far its clock can be from that reference, delay aside.
    pub root_dispersion: Nanos,
    /// How finely its clock can be read.
    pub precision: Nanos,
}

/// Why a datagram is no answer to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// It is too short, no server's, or of a version that is not understood.
    Malformed,
    /// It answers no request that is open.
    Unasked,
    /// The server says that its own clock is not synchronized.
    Unsynchronized,
    /// The server asks to be left alone (a kiss-o'-death, RFC 5905, 7.4), with its reason.
    Kiss([u8; 4]),
    /// Its times can't be true.
    Impossible,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("no NTP answer"),
            Self::Unasked => f.write_str("an answer that nobody asked for"),
            Self::Unsynchronized => f.write_str("its own clock is not synchronized"),
            Self::Kiss(code) => write!(f, "it asks to be left alone: {}", code.escape_ascii()),
            Self::Impossible => f.write_str("times that can't be true"),
        }
    }
}

impl core::error::Error for ResponseError {}

/// A request that carries `cookie` for its transmit time: the server gives it back, and by it an
/// answer is known to belong to this request. Being random, it also tells nobody the guest's time.
#[must_use]
pub fn request(cookie: u64) -> [u8; PACKET_LEN] {
    let mut packet = [0; PACKET_LEN];
    packet[0] = CLIENT;
    packet[40..48].copy_from_slice(&cookie.to_be_bytes());
    packet
}

/// Reads a datagram as the answer to the request with `cookie`. `built`, the image's source date,
/// tells NTP's eras of 136 years apart: an answer's times lie in the span of that length which
/// begins [`BEFORE_BUILT`] before it.
///
/// The guest's own clock has no say in that: an RTC that is decades off would turn a right answer
/// into one of another century.
///
/// # Errors
/// [`ResponseError`].
pub fn answer(datagram: &[u8], cookie: u64, built: Utc) -> Result<Response, ResponseError> {
    let packet: &[u8; PACKET_LEN] = datagram
        .get(..PACKET_LEN)
        .and_then(|head| head.try_into().ok())
        .ok_or(ResponseError::Malformed)?;
    let (leap, version, mode) = (packet[0] >> 6, packet[0] >> 3 & 7, packet[0] & 7);
    if mode != 4 || !(3..=4).contains(&version) {
        return Err(ResponseError::Malformed);
    }
    if word64(packet, 24) != cookie {
        return Err(ResponseError::Unasked);
    }
    let stratum = packet[1];
    if stratum == 0 {
        let code = [packet[12], packet[13], packet[14], packet[15]];
        return Err(ResponseError::Kiss(code));
    }
    let (received, sent) = (word64(packet, 32), word64(packet, 40));
    if leap == 3 || stratum > 15 || received == 0 || sent == 0 {
        return Err(ResponseError::Unsynchronized);
    }
    Ok(Response {
        stratum,
        received: instant(received, built),
        sent: instant(sent, built),
        root_delay: short(word32(packet, 4)),
        root_dispersion: short(word32(packet, 8)),
        precision: precision(packet[3] as i8),
    })
}

/// An instant in NTP's 64 bits: seconds of its era, and 2^-32 of one.
#[must_use]
pub fn timestamp(time: Utc) -> u64 {
    let seconds = time.0.div_euclid(NANOS_PER_SECOND) + ERA_TO_UNIX_S;
    let nanos = time.0.rem_euclid(NANOS_PER_SECOND) as u64;
    let fraction = (nanos << 32) / NANOS_PER_SECOND as u64;
    ((seconds as u64) << 32) | fraction
}

fn instant(timestamp: u64, built: Utc) -> Utc {
    let seconds = (timestamp >> 32) as u32;
    let nanos = ((timestamp & 0xffff_ffff) * NANOS_PER_SECOND as u64) >> 32;
    let earliest = (built - BEFORE_BUILT).0.div_euclid(NANOS_PER_SECOND) + ERA_TO_UNIX_S;
    // The way from the earliest instant to this one, in an era's 32 bits.
    let after = i64::from(seconds.wrapping_sub(earliest as u32));
    let unix = earliest + after - ERA_TO_UNIX_S;
    Utc(unix.saturating_mul(NANOS_PER_SECOND)) + Nanos(nanos as i64)
}

/// NTP's short format: 16 bits of seconds, 16 of a fraction. Rounded up, as a bound must be.
fn short(word: u32) -> Nanos {
    Nanos(((i64::from(word) * NANOS_PER_SECOND) >> 16) + i64::from(word != 0))
}

/// A power of two of a second; a nonsensical one is taken for its nearest sensible one.
fn precision(exponent: i8) -> Nanos {
    Nanos((libm::exp2(f64::from(exponent.clamp(-32, 4))) * 1e9) as i64 + 1)
}

fn word32(packet: &[u8; PACKET_LEN], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&packet[at..at + 4]);
    u32::from_be_bytes(bytes)
}

fn word64(packet: &[u8; PACKET_LEN], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&packet[at..at + 8]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Utc = Utc(1_800_000_000_123_456_789);

    /// A good answer, as a stratum-2 server sends it.
    fn good(cookie: u64) -> [u8; PACKET_LEN] {
        let mut packet = [0; PACKET_LEN];
        packet[0] = (4 << 3) | 4;
        packet[1] = 2;
        packet[3] = -23_i8 as u8;
        packet[4..8].copy_from_slice(&0x0000_8000_u32.to_be_bytes());
        packet[8..12].copy_from_slice(&0x0000_0042_u32.to_be_bytes());
        packet[24..32].copy_from_slice(&cookie.to_be_bytes());
        packet[32..40].copy_from_slice(&timestamp(NOW).to_be_bytes());
        packet[40..48].copy_from_slice(&timestamp(NOW + Nanos(5_000)).to_be_bytes());
        packet
    }

    #[test]
    fn a_servers_answer_is_read_in_its_units() {
        let read = answer(&good(7), 7, NOW).unwrap();
        assert_eq!(read.stratum, 2);
        assert!((read.received - NOW).abs() <= Nanos(1));
        assert!((read.sent - read.received - Nanos(5_000)).abs() <= Nanos(1));
        assert_eq!(read.root_delay, Nanos(500_000_001));
        assert_eq!(read.root_dispersion, Nanos(1_007_081));
        assert_eq!(read.precision, Nanos(120));
    }

    #[test]
    fn what_is_no_answer_to_this_request_is_told_from_one_that_is() {
        let change = |at: usize, byte: u8| {
            let mut packet = good(7);
            packet[at] = byte;
            answer(&packet, 7, NOW).unwrap_err()
        };
        assert_eq!(answer(&good(7), 8, NOW), Err(ResponseError::Unasked));
        assert_eq!(
            answer(&good(7)[..47], 7, NOW),
            Err(ResponseError::Malformed)
        );
        assert_eq!(change(0, (4 << 3) | 3), ResponseError::Malformed);
        assert_eq!(change(0, (7 << 3) | 4), ResponseError::Malformed);
        assert_eq!(
            change(0, (3 << 6) | (4 << 3) | 4),
            ResponseError::Unsynchronized
        );
        assert_eq!(change(1, 16), ResponseError::Unsynchronized);
        let mut kiss = good(7);
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(b"RATE");
        assert_eq!(answer(&kiss, 7, NOW), Err(ResponseError::Kiss(*b"RATE")));
    }

    #[test]
    fn the_eras_are_told_apart_from_when_the_image_was_built() {
        let built = Utc(1_767_225_600_000_000_000); // 2026
        for seconds in [
            1_200_000_000_i64, // 2008, before it was built
            1_767_225_600,     // the instant itself
            2_085_978_495,     // the last second of NTP's first era, in 2036
            2_085_978_496,     // the first of its second
            2_147_483_648,     // after 2038
            5_000_000_000,     // 2128
        ] {
            let time = Utc(seconds * NANOS_PER_SECOND);
            let read = instant(timestamp(time), built);
            assert!((read - time).abs() <= Nanos(1), "{seconds}: {read:?}");
        }
        // An image that is built in a later era reads that one.
        let built = Utc(2_200_000_000_000_000_000);
        let later = Utc(3_000_000_000_000_000_000);
        assert!((instant(timestamp(later), built) - later).abs() <= Nanos(1));
    }

    proptest! {
        #[test]
        fn no_datagram_upsets_the_reader(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            cookie: u64,
        ) {
            let _ = answer(&bytes, cookie, NOW);
        }

        #[test]
        fn an_answer_with_any_content_is_refused_or_has_bounds_that_are_not_negative(
            mut bytes in prop::collection::vec(any::<u8>(), PACKET_LEN),
            cookie: u64,
        ) {
            bytes[0] = (4 << 3) | 4;
            bytes[24..32].copy_from_slice(&cookie.to_be_bytes());
            if let Ok(read) = answer(&bytes, cookie, NOW) {
                prop_assert!(read.root_delay >= Nanos::ZERO);
                prop_assert!(read.root_dispersion >= Nanos::ZERO);
                prop_assert!(read.precision > Nanos::ZERO);
            }
        }
    }
}
