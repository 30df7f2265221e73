//! Lines to and from a virtio-serial port, bounded on both sides: of what a slow reader leaves
//! unread the oldest is dropped, and what a writer sends beyond a line's limit is cut and counted.

use std::collections::VecDeque;

/// Whole lines that wait to be written. The oldest are dropped once there are too many bytes.
#[derive(Debug)]
pub struct Outbox {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    capacity: usize,
    /// Bytes of the first line that the port has taken already.
    written: usize,
    dropped: u64,
}

impl Outbox {
    /// An empty outbox for at most `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            capacity,
            written: 0,
            dropped: 0,
        }
    }

    /// Adds a line, which must end in a newline; a line longer than the whole outbox is dropped.
    pub fn push(&mut self, line: Vec<u8>) {
        if line.len() > self.capacity {
            self.dropped += 1;
            return;
        }
        while self.bytes + line.len() > self.capacity && self.drop_oldest() {}
        if self.bytes + line.len() > self.capacity {
            // Only a half-written line is left: it must be finished, so this one goes.
            self.dropped += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    /// Drops the oldest line of which nothing is written yet.
    fn drop_oldest(&mut self) -> bool {
        let oldest = usize::from(self.written > 0);
        match self.lines.remove(oldest) {
            Some(line) => {
                self.bytes -= line.len();
                self.dropped += 1;
                true
            }
            None => false,
        }
    }

    /// The bytes to write next; empty where nothing waits.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        self.lines.front().map_or(&[], |line| &line[self.written..])
    }

    /// Notes that the port took `count` bytes of [`Outbox::front`].
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        if let Some(line) = self.lines.front()
            && self.written >= line.len()
        {
            self.bytes -= line.len();
            self.written = 0;
            self.lines.pop_front();
        }
    }

    /// The reader went away: the rest of a half-written line would only confuse the next one.
    pub fn abandon_partial(&mut self) {
        if self.written > 0 {
            self.written = 0;
            if let Some(line) = self.lines.pop_front() {
                self.bytes -= line.len();
                self.dropped += 1;
            }
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Lines dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// What [`Inbox::take`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// A line that was longer than allowed; its bytes are gone.
    TooLong,
}

/// Cuts what arrives into lines of at most `limit` bytes.
#[derive(Debug)]
pub struct Inbox {
    partial: Vec<u8>,
    limit: usize,
    overlong: bool,
}

impl Inbox {
    /// An empty inbox for lines of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            partial: Vec::new(),
            limit,
            overlong: false,
        }
    }

    /// Takes in `bytes` and hands each finished line to `each`. Empty lines are passed over.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(Taken)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (content, finished) = match piece.split_last() {
                Some((b'\n', content)) => (content, true),
                _ => (piece, false),
            };
            if self.overlong || self.partial.len() + content.len() > self.limit {
                self.overlong = true;
                self.partial.clear();
            } else {
                self.partial.extend_from_slice(content);
            }
            if finished {
                if std::mem::take(&mut self.overlong) {
                    each(Taken::TooLong);
                } else if !self.partial.is_empty() {
                    each(Taken::Line(std::mem::take(&mut self.partial)));
                }
            }
        }
    }

    /// Forgets an unfinished line, when the writer went away.
    pub fn clear(&mut self) {
        self.partial.clear();
        self.overlong = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Vec<u8> {
        format!("{text}\n").into_bytes()
    }

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !outbox.is_empty() {
            let count = outbox.front().len().min(step);
            out.extend_from_slice(&outbox.front()[..count]);
            outbox.advance(count);
        }
        out
    }

    #[test]
    fn the_oldest_lines_make_room_for_the_newest() {
        let mut outbox = Outbox::new(12);
        for text in ["one", "two", "six", "ten"] {
            outbox.push(line(text));
        }
        assert_eq!(outbox.dropped(), 1);
        assert_eq!(drain(&mut outbox, 100), b"two\nsix\nten\n");
    }

    #[test]
    fn a_half_written_line_is_finished_even_when_the_outbox_is_full() {
        let mut outbox = Outbox::new(8);
        outbox.push(line("one"));
        outbox.push(line("two"));
        outbox.advance(2);
        outbox.push(line("six"));
        assert_eq!(drain(&mut outbox, 1), b"e\nsix\n");
        assert_eq!(outbox.dropped(), 1);
    }

    #[test]
    fn a_reader_that_comes_back_gets_no_half_line() {
        let mut outbox = Outbox::new(100);
        outbox.push(line("one"));
        outbox.push(line("two"));
        outbox.advance(2);
        outbox.abandon_partial();
        assert_eq!(drain(&mut outbox, 100), b"two\n");
        assert_eq!(outbox.dropped(), 1);
    }

    #[test]
    fn an_endless_line_is_one_rejection_and_the_next_line_gets_through() {
        let mut inbox = Inbox::new(16);
        let mut taken = Vec::new();
        for _ in 0..1_000 {
            inbox.take(&[b'x'; 100], |t| taken.push(t));
            assert!(inbox.partial.capacity() <= 64);
        }
        inbox.take(b"\n{\"kick\":true}\n\n", |t| taken.push(t));
        assert_eq!(
            taken,
            [Taken::TooLong, Taken::Line(b"{\"kick\":true}".to_vec())]
        );
    }

    proptest! {
        #[test]
        fn lines_come_out_the_same_however_the_bytes_are_cut(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..400),
            cut in 1usize..50,
        ) {
            let collect = |size: usize| {
                let mut inbox = Inbox::new(64);
                let mut taken = Vec::new();
                for chunk in bytes.chunks(size) {
                    inbox.take(chunk, |t| taken.push(t));
                }
                taken
            };
            prop_assert_eq!(collect(cut), collect(bytes.len().max(1)));
        }

        #[test]
        fn an_outbox_never_holds_more_than_its_capacity_and_counts_every_line(
            lengths in prop::collection::vec((1usize..60, 0usize..40), 1..60),
        ) {
            let mut outbox = Outbox::new(100);
            let (mut pushed, mut finished) = (0u64, 0u64);
            for (length, taken) in lengths {
                outbox.push(vec![b'a'; length]);
                pushed += 1;
                prop_assert!(outbox.bytes <= 100);
                let count = outbox.front().len().min(taken);
                if count > 0 {
                    let before = outbox.lines.len();
                    outbox.advance(count);
                    finished += (before - outbox.lines.len()) as u64;
                }
            }
            prop_assert_eq!(pushed, finished + outbox.dropped() + outbox.lines.len() as u64);
        }
    }
}
