//! The host's time channel, port `noonmark.time`: four timestamps, as in NTP's on-wire protocol
//! (RFC 5905, section 8), over virtio-serial.
//!
//! The guest sends a [`Request`] frame with `t1`, the host answers with an [`Answer`] frame that
//! repeats sequence number and `t1` and adds `t2` (its UTC at receipt) and `t3` (its UTC at
//! sending). The guest notes `t4` at receipt. `t1` and `t4` are the guest's `CLOCK_MONOTONIC_RAW`,
//! so a step of the guest's clock in between spoils nothing; the host treats `t1` as opaque.
//!
//! After each answer the host may send a [`Told`] frame: what its kernel says of its clock. A guest that
//! doesn't know such frames skips them as it skips garbage, and one that gets none knows nothing of the
//! host's clock but its time, so that old and new may be put together in any way.

mod decoder;
mod frame;

pub use decoder::Decoder;
pub use frame::{FRAME_LEN, Frame};

use frame::seal;

use crate::host_clock::HostClock;
use crate::units::{Raw, Utc};

/// The port's name on the virtio-serial bus.
pub const PORT: &str = "noonmark.time";

/// How many exchanges a burst has where nothing is known of the channel yet.
pub const BURST: u8 = 8;

/// What the guest asks: "what time is it there?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Counts the guest's requests; wraps.
    pub sequence: u32,
    /// The guest's clock at sending; opaque to the host.
    pub t1: Raw,
}

/// What the host answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's.
    pub sequence: u32,
    /// The request's.
    pub t1: Raw,
    /// The host's UTC when the request came in.
    pub t2: Utc,
    /// The host's UTC when the answer went out.
    pub t3: Utc,
}

/// What the host adds to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The request's.
    pub sequence: u32,
    /// What the host's kernel says of its clock.
    pub clock: HostClock,
}

impl Frame for Request {
    const MAGIC: [u8; 4] = *b"NMQ1";

    fn encode(&self) -> [u8; FRAME_LEN] {
        seal(Self::MAGIC, self.sequence, [self.t1.0, 0, 0])
    }

    fn from_body(sequence: u32, [t1, zero2, zero3]: [i64; 3]) -> Option<Self> {
        let sound = zero2 == 0 && zero3 == 0;
        sound.then_some(Self {
            sequence,
            t1: Raw(t1),
        })
    }
}

impl Frame for Answer {
    const MAGIC: [u8; 4] = *b"NMA1";

    fn encode(&self) -> [u8; FRAME_LEN] {
        seal(
            Self::MAGIC,
            self.sequence,
            [self.t1.0, self.t2.0, self.t3.0],
        )
    }

    fn from_body(sequence: u32, [t1, t2, t3]: [i64; 3]) -> Option<Self> {
        Some(Self {
            sequence,
            t1: Raw(t1),
            t2: Utc(t2),
            t3: Utc(t3),
        })
    }
}

impl Frame for Told {
    const MAGIC: [u8; 4] = *b"NMC1";

    fn encode(&self) -> [u8; FRAME_LEN] {
        seal(Self::MAGIC, self.sequence, self.clock.to_numbers())
    }

    fn from_body(sequence: u32, numbers: [i64; 3]) -> Option<Self> {
        let clock = HostClock::from_numbers(numbers)?;
        Some(Self { sequence, clock })
    }
}

/// The host's whole part in an exchange: the frame that answers `request`, which came in at `t2`
/// and whose answer goes out at `t3`, both by the host's UTC clock.
#[must_use]
pub fn answer(request: &Request, t2: Utc, t3: Utc) -> [u8; FRAME_LEN] {
    Answer {
        sequence: request.sequence,
        t1: request.t1,
        t2,
        t3,
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_documented_bytes() {
        let frame = Request {
            sequence: 0x0102_0304,
            t1: Raw(0x1112_1314_1516_1718),
        }
        .encode();
        assert_eq!(&frame[..4], b"NMQ1");
        assert_eq!(frame[4..8], [1, 2, 3, 4]);
        assert_eq!(
            frame[8..16],
            [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]
        );
        assert_eq!(frame[16..36], [0; 20]);
        // zlib's crc32() of the 36 bytes.
        assert_eq!(frame[36..], 0xdde1_d9ac_u32.to_be_bytes());
    }

    #[test]
    fn an_answer_repeats_the_request_and_adds_the_hosts_times() {
        let request = Request {
            sequence: 7,
            t1: Raw(-5),
        };
        let frame = answer(&request, Utc(1_000), Utc(2_000));
        assert_eq!(&frame[..4], b"NMA1");
        assert_eq!(frame[4..16], request.encode()[4..16]);
        assert_eq!(frame[16..24], 1_000_i64.to_be_bytes());
        assert_eq!(frame[24..32], 2_000_i64.to_be_bytes());
    }

    /// Each side finds its own frames in the same bytes, as guests do that know the second kind or not.
    #[test]
    fn what_the_host_adds_to_an_answer_hides_no_answer() {
        let told = |sequence| Told {
            sequence,
            clock: HostClock::from_numbers([5, 6, 37]).unwrap(),
        };
        let request = |sequence| Request {
            sequence,
            t1: Raw(1),
        };
        let (mut answers, mut clocks) = (Decoder::<Answer>::default(), Decoder::<Told>::default());
        for sequence in 0..20 {
            let answer = answer(&request(sequence), Utc(1), Utc(2));
            for frame in [answer, told(sequence).encode()] {
                answers.push(&frame);
                clocks.push(&frame);
            }
            assert_eq!(answers.next_frame().map(|a| a.sequence), Some(sequence));
            assert_eq!(clocks.next_frame(), Some(told(sequence)));
        }
        assert_eq!(answers.next_frame(), None);
    }
}
