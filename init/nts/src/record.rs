//! The messages of the key establishment (RFC 8915, 4): a list of records each way.

use thiserror::Error;

/// NTPv4, the protocol that keys are wanted for.
pub const NTPV4: u16 = 0;

/// AEAD_AES_SIV_CMAC_256, which every server has to have.
pub const AES_SIV_CMAC_256: u16 = 15;

/// A longer answer is none: eight cookies take less than a kilobyte.
pub const ANSWER_MAX: usize = 16 * 1024;

/// So many cookies are kept, as many as a server should send.
pub const COOKIES: usize = 8;

/// The longest cookie that leaves room for the rest of a datagram.
const COOKIE_MAX: usize = 512;

const CRITICAL: u16 = 0x8000;

const END: u16 = 0;
const NEXT_PROTOCOL: u16 = 1;
const ERROR: u16 = 2;
const WARNING: u16 = 3;
const AEAD: u16 = 4;
const NEW_COOKIE: u16 = 5;
const SERVER: u16 = 6;
const PORT: u16 = 7;

/// What a server answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Established {
    /// Cookies for the first requests, 1 to [`COOKIES`].
    pub cookies: Vec<Vec<u8>>,
    /// Whom to ask for the time, where it isn't the server that was asked for keys.
    pub server: Option<String>,
    /// On which UDP port, where it isn't 123.
    pub port: Option<u16>,
}

/// Why an answer is no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The server says that the request was wrong, by RFC 8915's code.
    #[error("the server answers with error {0} (RFC 8915, 4.1.3)")]
    Error(u16),
    /// The same of a warning; none is defined, so that none can be ignored.
    #[error("the server answers with warning {0}")]
    Warning(u16),
    /// It agrees to nothing that was offered.
    #[error("the server doesn't speak {0}")]
    Unsupported(&'static str),
    /// There is no sense in it.
    #[error("the server's answer makes no sense: {0}")]
    Malformed(&'static str),
}

/// The request: NTPv4, by AEAD_AES_SIV_CMAC_256.
#[must_use]
pub fn request() -> Vec<u8> {
    let mut message = Vec::new();
    push(&mut message, NEXT_PROTOCOL | CRITICAL, &NTPV4.to_be_bytes());
    push(
        &mut message,
        AEAD | CRITICAL,
        &AES_SIV_CMAC_256.to_be_bytes(),
    );
    push(&mut message, END | CRITICAL, &[]);
    message
}

fn push(message: &mut Vec<u8>, kind: u16, body: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
}

/// Reads what has come of an answer; none where more has to come.
///
/// # Errors
/// [`RecordError`].
pub fn answer(mut bytes: &[u8]) -> Result<Option<Established>, RecordError> {
    let mut established = Established::default();
    let (mut protocol, mut aead) = (false, false);
    loop {
        let Some((kind, body, rest)) = next(bytes) else {
            return Ok(None);
        };
        bytes = rest;
        match kind & !CRITICAL {
            END => break,
            NEXT_PROTOCOL => protocol = agreed(protocol, body, NTPV4, "NTPv4 with NTS")?,
            AEAD => aead = agreed(aead, body, AES_SIV_CMAC_256, "AEAD_AES_SIV_CMAC_256")?,
            ERROR => return Err(RecordError::Error(word(body)?)),
            WARNING => return Err(RecordError::Warning(word(body)?)),
            NEW_COOKIE => {
                let fits = (1..=COOKIE_MAX).contains(&body.len());
                if fits && established.cookies.len() < COOKIES {
                    established.cookies.push(body.to_vec());
                }
            }
            SERVER => established.server = Some(name(body)?),
            PORT => {
                let port = word(body)?;
                if port == 0 {
                    return Err(RecordError::Malformed("port 0"));
                }
                established.port = Some(port);
            }
            _ if kind & CRITICAL != 0 => {
                return Err(RecordError::Malformed("a critical record of unknown type"));
            }
            _ => {}
        }
    }
    if !protocol || !aead {
        return Err(RecordError::Malformed("a record is missing"));
    }
    if established.cookies.is_empty() {
        return Err(RecordError::Malformed("no cookie of a usable length"));
    }
    Ok(Some(established))
}

/// The first record's type and body, and what follows it.
fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (body, rest) = rest.split_at_checked(length)?;
    Some((u16::from_be_bytes(*kind), body, rest))
}

/// Whether the server chose the one thing that was offered.
fn agreed(
    before: bool,
    body: &[u8],
    offered: u16,
    what: &'static str,
) -> Result<bool, RecordError> {
    if before {
        return Err(RecordError::Malformed("a record is there twice"));
    }
    // An empty list says that none of what was offered is supported.
    if body.is_empty() {
        return Err(RecordError::Unsupported(what));
    }
    if word(body)? == offered {
        Ok(true)
    } else {
        Err(RecordError::Unsupported(what))
    }
}

fn word(body: &[u8]) -> Result<u16, RecordError> {
    let body: [u8; 2] = body
        .try_into()
        .map_err(|_| RecordError::Malformed("a number of other than two bytes"))?;
    Ok(u16::from_be_bytes(body))
}

fn name(body: &[u8]) -> Result<String, RecordError> {
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"-._:".contains(b);
    if (1..=253).contains(&body.len()) && body.iter().all(is_name) {
        Ok(String::from_utf8_lossy(body).into_owned())
    } else {
        Err(RecordError::Malformed("a server's name that is none"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer of these records, each with its type and body.
    fn message(records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        for (kind, body) in records {
            push(&mut message, *kind, body);
        }
        message
    }

    const GOOD: [(u16, &[u8]); 3] = [
        (NEXT_PROTOCOL | CRITICAL, &[0, 0]),
        (AEAD, &[0, 15]),
        (NEW_COOKIE, &[7; 100]),
    ];
    const LAST: (u16, &[u8]) = (END | CRITICAL, &[]);

    fn with(more: (u16, &[u8])) -> Result<Option<Established>, RecordError> {
        answer(&message(&[&GOOD[..], &[more, LAST]].concat()))
    }

    #[test]
    fn the_request_is_rfc_8915s() {
        let expected = [128, 1, 0, 2, 0, 0, 128, 4, 0, 2, 0, 15, 128, 0, 0, 0];
        assert_eq!(request(), expected);
    }

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let whole = message(&[&GOOD[..], &[LAST]].concat());
        for short in 0..whole.len() {
            assert_eq!(answer(&whole[..short]), Ok(None), "{short} bytes");
        }
        let read = answer(&whole).unwrap().unwrap();
        assert_eq!(read.cookies, [vec![7; 100]]);
        assert_eq!((read.server, read.port), (None, None));
    }

    #[test]
    fn another_server_and_port_may_be_named() {
        let named = with((SERVER | CRITICAL, b"time.example")).unwrap().unwrap();
        assert_eq!(named.server.as_deref(), Some("time.example"));
        let port = with((PORT | CRITICAL, &[4, 99])).unwrap().unwrap();
        assert_eq!(port.port, Some(1_123));
        // What is unknown and not critical is skipped.
        assert!(with((0x4444, b"?")).unwrap().is_some());
    }

    #[test]
    fn what_is_no_use_is_refused_with_its_reason() {
        for (record, expected) in [
            ((ERROR | CRITICAL, &[0, 1][..]), RecordError::Error(1)),
            ((WARNING | CRITICAL, &[0, 2]), RecordError::Warning(2)),
            (
                (0x4444 | CRITICAL, b"?"),
                RecordError::Malformed("a critical record of unknown type"),
            ),
            ((PORT, &[0, 0]), RecordError::Malformed("port 0")),
            (
                (SERVER, b"two words"),
                RecordError::Malformed("a server's name that is none"),
            ),
            (
                (AEAD, &[0, 15]),
                RecordError::Malformed("a record is there twice"),
            ),
        ] {
            assert_eq!(with(record), Err(expected));
        }
        let other = message(&[GOOD[0], (AEAD, &[]), GOOD[2], LAST]);
        let unsupported = RecordError::Unsupported("AEAD_AES_SIV_CMAC_256");
        assert_eq!(answer(&other), Err(unsupported));
        let none = message(&[GOOD[0], GOOD[1], LAST]);
        assert!(matches!(answer(&none), Err(RecordError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_reader_of_records(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = answer(&bytes);
        }

        #[test]
        fn nor_do_records_with_any_content(
            records in prop::collection::vec(
                (0_u16..9, any::<bool>(), prop::collection::vec(any::<u8>(), 0..600)), 0..12),
        ) {
            let mut bytes = Vec::new();
            for (kind, critical, body) in &records {
                push(&mut bytes, kind | if *critical { CRITICAL } else { 0 }, body);
            }
            if let Ok(Some(read)) = answer(&bytes) {
                prop_assert!((1..=COOKIES).contains(&read.cookies.len()));
                prop_assert!(read.cookies.iter().all(|c| (1..=COOKIE_MAX).contains(&c.len())));
            }
        }
    }
}
