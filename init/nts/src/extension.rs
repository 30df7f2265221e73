//! Extension fields of an NTP packet (RFC 7822, 3; RFC 8915, 5): how they are written and found.

use noonmark_contract::ntp::packet::PACKET_LEN;

/// The Unique Identifier's type, which an answer gives back (RFC 8915, 5.3).
pub const UNIQUE_IDENTIFIER: u16 = 0x0104;
/// An NTS Cookie's (5.4).
pub const COOKIE: u16 = 0x0204;
/// That of a placeholder for a cookie of the answer's (5.5).
pub const COOKIE_PLACEHOLDER: u16 = 0x0304;
/// That of the authenticator, with what is encrypted in it (5.6).
pub const AUTHENTICATOR: u16 = 0x0404;

/// A field's type and length take this much before its body.
const HEADER: usize = 4;

/// The shortest field (RFC 7822, 3.2).
const FIELD_MIN: usize = 16;

/// What one datagram says in its fields, up to and with the authenticator. What stands after that
/// is anybody's and not looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The only unique identifier; none where there is none, or more than one.
    pub unique_identifier: Option<&'a [u8]>,
    /// The authenticator, if there is one.
    pub authenticator: Option<Authenticator<'a>>,
}

/// The authenticator field.
#[derive(Debug, PartialEq, Eq)]
pub struct Authenticator<'a> {
    /// All that stands before it, which it covers.
    pub covered: &'a [u8],
    /// The nonce.
    pub nonce: &'a [u8],
    /// What is encrypted, with the tag.
    pub ciphertext: &'a [u8],
}

/// Appends a field, padded to whole words.
pub fn push(packet: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let length = (HEADER + body.len()).next_multiple_of(4).max(FIELD_MIN);
    packet.extend(kind.to_be_bytes());
    packet.extend((length as u16).to_be_bytes());
    packet.extend(body);
    packet.resize(packet.len() + length - HEADER - body.len(), 0);
}

/// Appends an authenticator.
pub fn push_authenticator(packet: &mut Vec<u8>, nonce: &[u8], ciphertext: &[u8]) {
    let mut body = Vec::new();
    for part in [nonce, ciphertext] {
        body.extend((part.len() as u16).to_be_bytes());
    }
    for part in [nonce, ciphertext] {
        body.extend(part);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    push(packet, AUTHENTICATOR, &body);
}

/// Finds the fields of a datagram; none where they are not whole.
#[must_use]
pub fn fields(datagram: &[u8]) -> Option<Fields<'_>> {
    let mut found = Fields {
        unique_identifier: None,
        authenticator: None,
    };
    let mut identifiers = 0;
    let mut rest = datagram.get(PACKET_LEN..)?;
    while !rest.is_empty() {
        let covered = &datagram[..datagram.len() - rest.len()];
        let (kind, body, after) = next(rest)?;
        rest = after;
        match kind {
            UNIQUE_IDENTIFIER => {
                identifiers += 1;
                found.unique_identifier = (identifiers == 1).then_some(body);
            }
            AUTHENTICATOR => {
                found.authenticator = Some(authenticator(covered, body)?);
                break;
            }
            _ => {}
        }
    }
    Some(found)
}

/// The cookies in what an authenticator had encrypted; none where that is not made of fields.
#[must_use]
pub fn cookies(mut plaintext: &[u8]) -> Option<Vec<&[u8]>> {
    let mut cookies = Vec::new();
    while !plaintext.is_empty() {
        let (kind, body, after) = next(plaintext)?;
        plaintext = after;
        if kind == COOKIE {
            cookies.push(body);
        }
    }
    Some(cookies)
}

/// The first field's type and body, and what follows it.
fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let kind = u16::from_be_bytes(*bytes.first_chunk::<2>()?);
    let length = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    let length = usize::from(length);
    if length < HEADER || length % 4 != 0 {
        return None;
    }
    let (field, after) = bytes.split_at_checked(length)?;
    Some((kind, &field[HEADER..], after))
}

fn authenticator<'a>(covered: &'a [u8], body: &'a [u8]) -> Option<Authenticator<'a>> {
    let (lengths, rest) = body.split_first_chunk::<4>()?;
    let nonce = usize::from(u16::from_be_bytes([lengths[0], lengths[1]]));
    let ciphertext = usize::from(u16::from_be_bytes([lengths[2], lengths[3]]));
    let (padded, rest) = rest.split_at_checked(nonce.next_multiple_of(4))?;
    Some(Authenticator {
        covered,
        nonce: &padded[..nonce],
        ciphertext: rest.get(..ciphertext)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_is_padded_and_found_again() {
        let mut packet = vec![0; PACKET_LEN];
        push(&mut packet, UNIQUE_IDENTIFIER, &[9; 32]);
        push(&mut packet, COOKIE, &[1; 5]);
        let covered = packet.clone();
        push_authenticator(&mut packet, &[2; 13], &[3; 18]);
        // Not covered, so not looked at.
        push(&mut packet, UNIQUE_IDENTIFIER, &[8; 32]);
        assert_eq!(packet.len() % 4, 0);
        assert_eq!(covered.len(), PACKET_LEN + 36 + 16);
        let found = fields(&packet).unwrap();
        assert_eq!(found.unique_identifier, Some(&[9; 32][..]));
        let authenticator = found.authenticator.unwrap();
        assert_eq!(authenticator.covered, covered);
        assert_eq!(authenticator.nonce, [2; 13]);
        assert_eq!(authenticator.ciphertext, [3; 18]);
    }

    #[test]
    fn two_identifiers_are_none() {
        let mut packet = vec![0; PACKET_LEN];
        push(&mut packet, UNIQUE_IDENTIFIER, &[9; 32]);
        push(&mut packet, UNIQUE_IDENTIFIER, &[9; 32]);
        assert_eq!(fields(&packet).unwrap().unique_identifier, None);
    }

    #[test]
    fn fields_that_are_not_whole_are_none() {
        let mut packet = vec![0; PACKET_LEN];
        push_authenticator(&mut packet, &[2; 16], &[3; 16]);
        for short in PACKET_LEN + 1..packet.len() {
            assert_eq!(fields(&packet[..short]), None, "{short}");
        }
        // A ciphertext that would reach beyond its field.
        packet[PACKET_LEN + HEADER + 3] = 17;
        assert_eq!(fields(&packet), None);
    }

    proptest! {
        #[test]
        fn no_datagram_upsets_the_reader_of_fields(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let _ = fields(&bytes);
            let _ = cookies(&bytes);
        }

        #[test]
        fn nor_do_fields_with_any_content(
            kinds in prop::collection::vec((0_u16..6, any::<u16>(), 0_usize..60), 0..6),
        ) {
            let mut bytes = vec![0; PACKET_LEN];
            for (kind, length, body) in kinds {
                bytes.extend((kind << 8 | 4).to_be_bytes());
                bytes.extend((length % 128).to_be_bytes());
                bytes.resize(bytes.len() + body, 1);
            }
            if let Some(found) = fields(&bytes) {
                let within = |part: &[u8]| part.len() <= bytes.len();
                prop_assert!(found.unique_identifier.is_none_or(within));
            }
        }
    }
}
