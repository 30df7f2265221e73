//! Finds JSON objects in a stream of bytes, whether or not each has a line of its own, and begins anew
//! after whatever is none.

use alloc::vec::Vec;

/// The longest object; a client of the agent's sends some hundred bytes.
pub const OBJECT_MAX: usize = 16 * 1024;

/// What no JSON has in it: a client that begins anew sends it first (qga/qapi-schema.json,
/// `guest-sync-delimited`).
pub const SENTINEL: u8 = 0xff;

/// What [`Objects::take`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Bytes from one brace to the one that closes it. What is between them need not be JSON.
    Object(Vec<u8>),
    /// Something that begins no object, once up to the end of its line.
    Stray,
    /// An object that is longer than [`OBJECT_MAX`]; its bytes are gone, to the end of its last line.
    TooLong,
}

/// Where in the stream the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Between,
    Object,
    Text,
    Escape,
    /// In what has been told of, until its line ends.
    Skipped,
}

/// Cuts what arrives into objects. It never holds more than [`OBJECT_MAX`] bytes, whatever comes.
#[derive(Debug, Default)]
pub struct Objects {
    partial: Vec<u8>,
    place: Place,
    depth: usize,
}

impl Objects {
    /// Takes in bytes up to the end of the first thing that is found in them, which comes first, with
    /// the bytes behind it.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> (Option<Found>, &'a [u8]) {
        for (at, &byte) in bytes.iter().enumerate() {
            if let Some(found) = self.take_byte(byte) {
                return (Some(found), &bytes[at + 1..]);
            }
        }
        (None, &[])
    }

    /// Forgets what is not finished.
    pub fn clear(&mut self) {
        // Its memory too: most of the time there is nothing.
        *self = Self::default();
    }

    fn take_byte(&mut self, byte: u8) -> Option<Found> {
        if byte == SENTINEL {
            self.clear();
            return None;
        }
        match self.place {
            Place::Skipped => {
                if byte == b'\n' {
                    self.place = Place::Between;
                }
                return None;
            }
            Place::Between => match byte {
                b'{' => {
                    self.depth = 1;
                    self.place = Place::Object;
                }
                b' ' | b'\t' | b'\r' | b'\n' => return None,
                _ => {
                    self.place = Place::Skipped;
                    return Some(Found::Stray);
                }
            },
            Place::Object => match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                b'"' => self.place = Place::Text,
                _ => {}
            },
            Place::Text => match byte {
                b'\\' => self.place = Place::Escape,
                b'"' => self.place = Place::Object,
                _ => {}
            },
            Place::Escape => self.place = Place::Text,
        }
        if self.partial.len() == OBJECT_MAX {
            self.clear();
            if byte != b'\n' {
                self.place = Place::Skipped;
            }
            return Some(Found::TooLong);
        }
        self.partial.push(byte);
        if self.depth == 0 {
            self.place = Place::Between;
            return Some(Found::Object(core::mem::take(&mut self.partial)));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn all(objects: &mut Objects, mut bytes: &[u8]) -> Vec<Found> {
        let mut list = Vec::new();
        while !bytes.is_empty() {
            let (found, rest) = objects.take(bytes);
            list.extend(found);
            bytes = rest;
        }
        list
    }

    fn object(text: &str) -> Found {
        Found::Object(text.as_bytes().to_vec())
    }

    #[test]
    fn objects_are_found_with_and_without_lines_of_their_own() {
        let text = b"{\"a\":\"}{\\\"\"}\n {\"b\":[{},{}]}{\"c\":1\n}\r\n";
        let found = all(&mut Objects::default(), text);
        let expected = [
            object("{\"a\":\"}{\\\"\"}"),
            object("{\"b\":[{},{}]}"),
            object("{\"c\":1\n}"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_sentinel_ends_whatever_was_begun() {
        for before in ["", "{\"a\":\"", "{\"a\":\"\\", "{{{[", "garbage"] {
            let bytes = [before.as_bytes(), b"\xff{}"].concat();
            let found = all(&mut Objects::default(), &bytes);
            assert_eq!(found.last(), Some(&object("{}")), "{before}");
        }
    }

    #[test]
    fn what_is_no_object_is_told_once_a_line() {
        let found = all(
            &mut Objects::default(),
            b"hello {} \"x\"\n[1,{}]\n}\n\x00\n{}",
        );
        let stray = || Found::Stray;
        assert_eq!(found, [stray(), stray(), stray(), stray(), object("{}")]);
    }

    #[test]
    fn an_endless_object_is_one_rejection_and_the_next_line_gets_through() {
        let mut objects = Objects::default();
        let mut found = all(&mut objects, b"{\"");
        for _ in 0..1_000 {
            found.extend(all(&mut objects, &vec![b'x'; 1_000]));
            assert!(objects.partial.capacity() <= 2 * OBJECT_MAX);
        }
        found.extend(all(&mut objects, b"\"}\n{}\n"));
        assert_eq!(found, [Found::TooLong, object("{}")]);
    }

    proptest! {
        #[test]
        fn what_is_found_does_not_depend_on_how_the_bytes_are_cut(
            bytes in prop::collection::vec(
                prop_oneof![prop::sample::select(&b"{}[]\"\\\n\xff a"[..]), any::<u8>()],
                0..300,
            ),
            cut in 1usize..40,
        ) {
            let whole = all(&mut Objects::default(), &bytes);
            let mut objects = Objects::default();
            let mut pieces = Vec::new();
            for piece in bytes.chunks(cut) {
                pieces.extend(all(&mut objects, piece));
                prop_assert!(objects.partial.len() <= OBJECT_MAX);
            }
            prop_assert_eq!(whole, pieces);
        }
    }
}
