//! Contents that are written in another form: base64, gzip.

use std::borrow::Cow;
use std::io::Read;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use flate2::bufread::GzDecoder;
use noonmark_contract::seed::instance::printable;
use serde::Deserialize;
use thiserror::Error;

/// How a file's content is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Encoding {
    /// As it is.
    #[default]
    Plain,
    /// base64
    Base64,
    /// gzip
    Gzip,
    /// gzip, then base64
    GzipBase64,
}

/// A content that can't be decoded.
#[derive(Debug, Error)]
pub enum ContentError {
    /// The encoding has another name.
    #[error("unknown encoding `{0}`; expected text/plain, b64, gzip or gz+b64")]
    Unknown(String),
    /// It is no base64.
    #[error("no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// It is no gzip.
    #[error("no gzip: {0}")]
    Gzip(std::io::Error),
    /// It is no UTF-8.
    #[error("no UTF-8: {0}")]
    Utf8(std::str::Utf8Error),
    /// Its byte order mark says UTF-16, and it is none.
    #[error("no UTF-16, which its first bytes announce")]
    Utf16,
    /// It is too large.
    #[error("more than {0} bytes when it is unpacked")]
    TooLarge(usize),
}

/// Padding may be left out, as Python's decoder has it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The names that cloud-init has for them.
impl TryFrom<String> for Encoding {
    type Error = ContentError;
    fn try_from(name: String) -> Result<Self, ContentError> {
        Ok(match name.trim().to_ascii_lowercase().as_str() {
            "" | "text/plain" => Self::Plain,
            "b64" | "base64" => Self::Base64,
            "gz" | "gzip" => Self::Gzip,
            "gz+b64" | "gz+base64" | "gzip+b64" | "gzip+base64" => Self::GzipBase64,
            _ => {
                return Err(ContentError::Unknown(printable(&name, 40)));
            }
        })
    }
}

impl Encoding {
    /// The content in plain, at most `max` bytes.
    ///
    /// # Errors
    /// If it is not what the encoding says, or too large.
    pub fn decode(self, written: Vec<u8>, max: usize) -> Result<Vec<u8>, ContentError> {
        let content = match self {
            Self::Plain => written,
            Self::Base64 => base64(&written)?,
            Self::Gzip => gunzip(&written, max)?,
            Self::GzipBase64 => gunzip(&base64(&written)?, max)?,
        };
        if content.len() > max {
            return Err(ContentError::TooLarge(max));
        }
        Ok(content)
    }
}

/// Decodes base64. What is none of its digits is passed over, line ends among it, as Python's decoder
/// does.
///
/// # Errors
/// If there are too few digits for the last byte.
pub fn base64(text: &[u8]) -> Result<Vec<u8>, ContentError> {
    let digits = text.iter().copied().filter(|byte| is_digit(*byte));
    Ok(BASE64.decode(digits.collect::<Vec<u8>>())?)
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Whether these bytes have nothing but base64 in them, with line ends and padding.
#[must_use]
pub fn is_base64(text: &[u8]) -> bool {
    let fits = |byte: &u8| is_digit(*byte) || *byte == b'=' || byte.is_ascii_whitespace();
    text.iter().all(fits)
}

/// A document's text: UTF-8, with or without a byte order mark, or UTF-16 with one, as PowerShell's
/// `>` writes it.
///
/// # Errors
/// If it is neither.
pub fn text(bytes: &[u8]) -> Result<Cow<'_, str>, ContentError> {
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, odd) = rest.as_chunks();
        let units = pairs.iter().map(|pair| unit(*pair));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        match text {
            Ok(text) if odd.is_empty() => Ok(Cow::Owned(text)),
            _ => Err(ContentError::Utf16),
        }
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => match std::str::from_utf8(rest) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => Err(ContentError::Utf8(error)),
        },
    }
}

/// Whether these bytes are packed by gzip (RFC 1952, 2.3.1).
#[must_use]
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Unpacks gzip, at most `max` bytes of it.
///
/// # Errors
/// If it is none, or unpacks to more.
pub fn gunzip(packed: &[u8], max: usize) -> Result<Vec<u8>, ContentError> {
    let mut content = Vec::new();
    let mut rest = packed;
    loop {
        let room = (max - content.len()) as u64 + 1;
        let mut limited = GzDecoder::new(&mut rest).take(room);
        limited
            .read_to_end(&mut content)
            .map_err(ContentError::Gzip)?;
        if content.len() > max {
            return Err(ContentError::TooLarge(max));
        }
        // Another member may follow, or what fills the last block up, as Python's decoder has it.
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_encoding_gives_the_content_back() {
        let packed = gzip(b"noon");
        let text = BASE64.encode(&packed);
        for (name, written) in [
            ("text/plain", b"noon".to_vec()),
            ("b64", b"bm9v\nbg==\n".to_vec()),
            ("base64", b"bm9vbg".to_vec()),
            ("gzip", packed),
            ("gz+b64", text.clone().into_bytes()),
            ("gzip+base64", text.into_bytes()),
        ] {
            let encoding = Encoding::try_from(name.to_owned()).unwrap();
            assert_eq!(encoding.decode(written, 4).unwrap(), b"noon", "{name}");
        }
    }

    #[test]
    fn zeros_and_further_members_may_follow_what_is_packed() {
        let twice = [gzip(b"a"), gzip(b"b"), vec![0; 600]].concat();
        assert_eq!(gunzip(&twice, 2).unwrap(), b"ab");
        assert!(matches!(gunzip(&twice, 1), Err(ContentError::TooLarge(1))));
        let broken = [gzip(b"a"), b"b".to_vec()].concat();
        assert!(matches!(gunzip(&broken, 9), Err(ContentError::Gzip(_))));
    }

    #[test]
    fn what_unpacks_to_more_than_it_may_is_refused_without_unpacking_it_all() {
        let bomb = gzip(&vec![0; 1 << 20]);
        let error = Encoding::Gzip.decode(bomb, 1000).unwrap_err();
        assert!(matches!(error, ContentError::TooLarge(1000)), "{error}");
        assert!(Encoding::Plain.decode(vec![0; 5], 4).is_err());
    }

    #[test]
    fn a_document_is_read_with_the_byte_order_marks_that_editors_write() {
        assert_eq!(text(b"\xef\xbb\xbfnoon").unwrap(), "noon");
        assert_eq!(text(b"\xff\xfen\0\xe9\0").unwrap(), "n\u{e9}");
        assert_eq!(text(b"\xfe\xff\0n\0\xe9").unwrap(), "n\u{e9}");
        assert!(text(b"\xff\xfen").is_err());
        assert!(text(b"\xff\xfe\x00\xd8").is_err());
        assert!(text(b"n\xff").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_upset_a_decoder(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for encoding in [Encoding::Base64, Encoding::Gzip, Encoding::GzipBase64] {
                let _ = encoding.decode(bytes.clone(), 1000);
                let mut packed = gzip(&bytes);
                let middle = packed.len() / 2;
                packed[middle] ^= 1;
                let _ = encoding.decode(packed, 1000);
            }
        }
    }
}
