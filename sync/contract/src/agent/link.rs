//! What the agent's program and PID 1 say to each other, a datagram each. The program has no right to any
//! of it; PID 1 decides.

use alloc::string::String;
use alloc::vec::Vec;

use crate::record::Shutdown;

/// The longest reason, bytes; of a longer one, as much is sent.
pub const WHY_MAX: usize = 400;

/// The longest answer.
pub const ANSWER_MAX: usize = HEAD + WHY_MAX;

/// A question's or an answer's first bytes: what it is, and which question it belongs to.
const HEAD: usize = 5;

/// Something that PID 1 is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Look at the clock, and answer once it is known to be right.
    Verify,
    /// End the machine.
    Shutdown(Shutdown),
    /// Let services and data disks stand still.
    Freeze,
    /// Put the clock right, and let them go on.
    Thaw,
}

/// What the program sends; an empty datagram says only that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its number, which comes back with the answer.
    pub number: u32,
    /// What is to be done.
    pub ask: Ask,
}

/// What PID 1 sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With it comes the port's descriptor.
    Port,
    /// From here on the guest is frozen, or it isn't.
    Frozen(bool),
    /// The question of this number has been done, to so many of whatever it was about.
    Done {
        /// The question's.
        number: u32,
        /// File systems that were frozen or thawed; 0 otherwise.
        count: u32,
    },
    /// It could not be done.
    Failed {
        /// The question's.
        number: u32,
        /// Why, in words.
        why: String,
    },
}

impl Question {
    /// As it is sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEAD] {
        let [a, b, c, d] = self.number.to_le_bytes();
        let ask = match self.ask {
            Ask::Verify => 1,
            Ask::Freeze => 2,
            Ask::Thaw => 3,
            Ask::Shutdown(Shutdown::Poweroff) => 4,
            Ask::Shutdown(Shutdown::Reboot) => 5,
            Ask::Shutdown(Shutdown::Halt) => 6,
        };
        [ask, a, b, c, d]
    }

    /// Reads one; none where the bytes are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [ask, a, b, c, d] = *bytes else {
            return None;
        };
        let ask = match ask {
            1 => Ask::Verify,
            2 => Ask::Freeze,
            3 => Ask::Thaw,
            4 => Ask::Shutdown(Shutdown::Poweroff),
            5 => Ask::Shutdown(Shutdown::Reboot),
            6 => Ask::Shutdown(Shutdown::Halt),
            _ => return None,
        };
        let number = u32::from_le_bytes([a, b, c, d]);
        Some(Self { number, ask })
    }
}

impl Answer {
    /// As it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (what, number) = match self {
            Self::Port => (1, 0),
            Self::Frozen(frozen) => (2, u32::from(*frozen)),
            Self::Done { number, .. } => (3, *number),
            Self::Failed { number, .. } => (4, *number),
        };
        let mut bytes = Vec::with_capacity(HEAD + 4);
        bytes.push(what);
        bytes.extend(number.to_le_bytes());
        match self {
            Self::Done { count, .. } => bytes.extend(count.to_le_bytes()),
            Self::Failed { why, .. } => {
                bytes.extend(&why.as_bytes()[..why.floor_char_boundary(WHY_MAX)]);
            }
            Self::Port | Self::Frozen(_) => {}
        }
        bytes
    }

    /// Reads one; none where the bytes are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[what, a, b, c, d], rest) = bytes.split_first_chunk::<HEAD>()?;
        let number = u32::from_le_bytes([a, b, c, d]);
        match (what, rest) {
            (1, []) => Some(Self::Port),
            (2, []) => Some(Self::Frozen(number != 0)),
            (3, &[a, b, c, d]) => {
                let count = u32::from_le_bytes([a, b, c, d]);
                Some(Self::Done { number, count })
            }
            (4, why) if why.len() <= WHY_MAX => {
                let why = core::str::from_utf8(why).ok()?.into();
                Some(Self::Failed { number, why })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asks() -> impl Strategy<Value = Ask> {
        prop::sample::select(alloc::vec![
            Ask::Verify,
            Ask::Freeze,
            Ask::Thaw,
            Ask::Shutdown(Shutdown::Poweroff),
            Ask::Shutdown(Shutdown::Reboot),
            Ask::Shutdown(Shutdown::Halt),
        ])
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(
            number: u32, count: u32, frozen: bool, ask in asks(), why in "\\PC{0,400}",
        ) {
            let question = Question { number, ask };
            prop_assert_eq!(Question::from_bytes(&question.to_bytes()), Some(question));
            let why: String = why.chars().take(WHY_MAX / 4).collect();
            for answer in [
                Answer::Port,
                Answer::Frozen(frozen),
                Answer::Done { number, count },
                Answer::Failed { number, why },
            ] {
                prop_assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
            }
        }

        #[test]
        fn a_reason_of_any_length_fits_a_datagram(why in "\\PC{0,900}") {
            let bytes = Answer::Failed { number: 1, why }.to_bytes();
            prop_assert!(bytes.len() <= ANSWER_MAX);
            prop_assert!(Answer::from_bytes(&bytes).is_some());
        }

        #[test]
        fn no_datagram_upsets_the_reader(bytes: Vec<u8>) {
            let _ = Question::from_bytes(&bytes);
            if let Some(answer) = Answer::from_bytes(&bytes) {
                prop_assert!(answer.to_bytes().len() <= ANSWER_MAX);
            }
        }
    }
}
