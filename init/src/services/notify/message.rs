//! What a service says of itself in one datagram, as sd_notify(3) has it: lines of `NAME=value`, of
//! which unknown ones mean nothing.

use noonmark_contract::seed::instance::printable;
use noonmark_contract::units::Nanos;

/// The longest datagram: `PIPE_BUF`, as for systemd.
pub const MESSAGE_MAX: usize = 4096;

/// How much of `STATUS=` is kept.
const STATUS_MAX: usize = 200;

/// The longest extension: a day.
const EXTENSION_MAX: Nanos = Nanos::from_secs(86_400);

/// What a datagram says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `READY=1`
    pub ready: bool,
    /// `STOPPING=1`
    pub stopping: bool,
    /// `WATCHDOG=1`
    pub alive: bool,
    /// `STATUS=`, printable and bounded.
    pub status: Option<String>,
    /// `EXTEND_TIMEOUT_USEC=`
    pub extension: Option<Nanos>,
}

impl Message {
    /// Reads a datagram; none where that is too long or no text.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > MESSAGE_MAX {
            return None;
        }
        let mut message = Self::default();
        for line in std::str::from_utf8(datagram).ok()?.split('\n') {
            match line.split_once('=') {
                Some(("READY", "1")) => message.ready = true,
                Some(("STOPPING", "1")) => message.stopping = true,
                Some(("WATCHDOG", "1")) => message.alive = true,
                Some(("STATUS", text)) => message.status = Some(printable(text, STATUS_MAX)),
                Some(("EXTEND_TIMEOUT_USEC", text)) => {
                    let nanos = text
                        .parse::<i64>()
                        .ok()
                        .and_then(|us| us.checked_mul(1_000));
                    let nanos = nanos.filter(|nanos| *nanos >= 0);
                    message.extension = nanos.map(|nanos| Nanos(nanos).min(EXTENSION_MAX));
                }
                _ => {}
            }
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_what_sd_notify_says_and_unknown_ones_are_nothing() {
        let text = b"READY=1\nSTATUS=up\nMAINPID=1\nWATCHDOG=trigger\nX\n\nEXTEND_TIMEOUT_USEC=5";
        let expected = Message {
            ready: true,
            status: Some("up".into()),
            extension: Some(Nanos(5_000)),
            ..Message::default()
        };
        assert_eq!(Message::parse(text), Some(expected));
        let both = Message::parse(b"STOPPING=1\nWATCHDOG=1\n").unwrap();
        assert!(both.stopping && both.alive && !both.ready);
        for text in [
            "READY=0",
            "READY=11",
            "ready=1",
            "",
            "EXTEND_TIMEOUT_USEC=-1",
        ] {
            let message = Message::parse(text.as_bytes());
            assert_eq!(message, Some(Message::default()), "{text}");
        }
    }

    #[test]
    fn a_status_is_printable_and_short() {
        let said = [&b"STATUS=\x1b[2J"[..], &[b'x'; 3000]].concat();
        let status = Message::parse(&said).unwrap().status.unwrap();
        assert!(status.starts_with("\\u{1b}[2J"), "{status}");
        assert!(status.len() <= STATUS_MAX + 3);
    }

    #[test]
    fn what_is_no_text_or_too_long_is_refused() {
        assert_eq!(Message::parse(b"READY=1\n\xff"), None);
        assert_eq!(Message::parse(&[b'x'; MESSAGE_MAX + 1]), None);
    }

    proptest! {
        #[test]
        fn no_datagram_gives_more_than_is_bounded(
            bytes in prop::collection::vec(any::<u8>(), 0..5000),
            text in "(READY|STATUS|EXTEND_TIMEOUT_USEC|\\PC)=.{0,300}",
        ) {
            for datagram in [&bytes[..], text.as_bytes()] {
                let Some(message) = Message::parse(datagram) else { continue };
                let status = message.status.unwrap_or_default();
                prop_assert!(status.len() <= STATUS_MAX + 13, "{status}");
                prop_assert!(!status.chars().any(char::is_control));
                let extension = message.extension.unwrap_or_default();
                prop_assert!((Nanos::ZERO..=EXTENSION_MAX).contains(&extension));
            }
        }
    }
}
