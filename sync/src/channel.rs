//! The host's time channel, port `noonmark.time`: four timestamps, as in NTP's on-wire protocol
//! (RFC 5905, section 8), over virtio-serial.
//!
//! The guest sends a [`Request`] frame with `t1`, the host answers with an [`Answer`] frame that
//! repeats sequence number and `t1` and adds `t2` (its UTC at receipt) and `t3` (its UTC at
//! sending). The guest notes `t4` at receipt. `t1` and `t4` are the guest's `CLOCK_MONOTONIC_RAW`,
//! so a step of the guest's clock in between spoils nothing; the host treats `t1` as opaque.
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

/// The port's name on the virtio-serial bus.
pub const PORT: &str = "noonmark.time";

/// Bytes in a frame, either way.
pub const FRAME_LEN: usize = 40;
