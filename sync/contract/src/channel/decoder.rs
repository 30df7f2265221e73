//! Finds frames in a stream of bytes, also after garbage.

use alloc::vec::Vec;
use core::marker::PhantomData;

use super::frame::{FRAME_LEN, Frame, open};

/// An incremental decoder: bytes in as they come, whole frames out.
///
/// Bytes that belong to no frame are skipped and counted. It never holds more than
/// [`Decoder::CAPACITY`] bytes, whatever the other side sends.
#[derive(Debug)]
pub struct Decoder<F> {
    buffer: Vec<u8>,
    skipped: u64,
    frames: PhantomData<F>,
}

impl<F: Frame> Default for Decoder<F> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            skipped: 0,
            frames: PhantomData,
        }
    }
}

impl<F: Frame> Decoder<F> {
    /// Bytes that can wait in the decoder; of more, the oldest are dropped and counted as skipped.
    pub const CAPACITY: usize = 64 * FRAME_LEN;

    /// Takes in bytes as they came. Call [`Decoder::next_frame`] until it gives none afterwards.
    pub fn push(&mut self, bytes: &[u8]) {
        let newest = &bytes[bytes.len().saturating_sub(Self::CAPACITY)..];
        let excess = (self.buffer.len() + newest.len()).saturating_sub(Self::CAPACITY);
        self.skip(excess);
        self.skipped += (bytes.len() - newest.len()) as u64;
        self.buffer.extend_from_slice(newest);
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Option<F> {
        loop {
            let garbage = (0..self.buffer.len())
                .find(|&at| self.may_start_at(at))
                .unwrap_or(self.buffer.len());
            self.skip(garbage);
            let frame: &[u8; FRAME_LEN] = self.buffer.first_chunk()?;
            let found =
                open(F::MAGIC, frame).and_then(|(sequence, times)| F::from_body(sequence, times));
            if found.is_some() {
                self.buffer.drain(..FRAME_LEN);
                return found;
            }
            // A frame may begin inside what only looked like one.
            self.skip(1);
        }
    }

    /// How many bytes so far belonged to no frame.
    #[must_use]
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped
    }

    /// Forgets a half-received frame, for a connection that begins anew.
    pub fn clear(&mut self) {
        self.skip(self.buffer.len());
    }

    /// Whether the bytes from `at` are the magic, or as much of it as is there.
    fn may_start_at(&self, at: usize) -> bool {
        let rest = &self.buffer[at..];
        let seen = rest.len().min(F::MAGIC.len());
        rest[..seen] == F::MAGIC[..seen]
    }

    fn skip(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.skipped += bytes as u64;
    }
}
