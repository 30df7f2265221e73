//! Randomness that nobody can guess, or none.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Fills a buffer with it, or says why there is none.
pub type Random = fn(&mut [u8]) -> io::Result<()>;

/// The kernel's.
///
/// # Errors
/// `WouldBlock` as long as the kernel has not gathered enough to start its generator (getrandom(2),
/// `GRND_NONBLOCK`); whoever asks tries again later rather than hold up a round.
pub fn kernel(bytes: &mut [u8]) -> io::Result<()> {
    let filled = getrandom(&mut *bytes, GetRandomFlags::NONBLOCK)?;
    // The kernel fills requests of up to 256 bytes in whole.
    if filled == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
