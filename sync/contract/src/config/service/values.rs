//! Values of a `[[service]]` that are written as text: what to do on a disruption, when it is ready, a
//! number of bytes, where output goes.

use alloc::format;
use alloc::string::String;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is done to a service when the clock was disturbed, or the guest is frozen: `keep`, `freeze` or
/// `signal:NAME`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OnDisruption {
    /// Nothing.
    #[default]
    Keep,
    /// All its processes stand still from the disruption's detection until the clock is right.
    Freeze,
    /// Its first process gets this signal when the clock is right again.
    Signal(ServiceSignal),
}

/// A signal that can be named in `on_disruption`; its number is x86-64's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceSignal {
    /// `HUP`
    Hup = 1,
    /// `INT`
    Int = 2,
    /// `QUIT`
    Quit = 3,
    /// `USR1`
    Usr1 = 10,
    /// `USR2`
    Usr2 = 12,
    /// `TERM`
    Term = 15,
    /// `CONT`
    Cont = 18,
    /// `WINCH`
    Winch = 28,
}

/// When a service counts as ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// It doesn't say.
    #[default]
    Started,
    /// Once it says `READY=1` (sd_notify(3)).
    Notify,
}

/// A number of bytes, written as `"64M"` (K, M and G are powers of 1024) or as a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "RawByteSize", into = "u64")]
pub struct ByteSize(u64);

/// Where a service's output goes: `console` or `port:NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Output {
    /// To `/dev/console`.
    #[default]
    Console,
    /// To the virtio-serial port of this name.
    Port(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a size like \"64M\", or a number of bytes")]
enum RawByteSize {
    Text(String),
    Bytes(u64),
}

const SIGNALS: [(&str, ServiceSignal); 8] = [
    ("HUP", ServiceSignal::Hup),
    ("INT", ServiceSignal::Int),
    ("QUIT", ServiceSignal::Quit),
    ("USR1", ServiceSignal::Usr1),
    ("USR2", ServiceSignal::Usr2),
    ("TERM", ServiceSignal::Term),
    ("CONT", ServiceSignal::Cont),
    ("WINCH", ServiceSignal::Winch),
];

impl ByteSize {
    /// So many bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, shift) = match text.as_bytes() {
            [.., b'K'] => (&text[..text.len() - 1], 10),
            [.., b'M'] => (&text[..text.len() - 1], 20),
            [.., b'G'] => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        digits
            .parse::<u64>()
            .ok()
            .filter(|number| digits.bytes().all(|b| b.is_ascii_digit()) && *number > 0)
            .and_then(|number| number.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "`{}`: expected a size like `64M` (K, M or G), or a number of bytes, at least 1",
                    text.escape_debug()
                )
            })
    }
}

impl TryFrom<RawByteSize> for ByteSize {
    type Error = String;

    fn try_from(raw: RawByteSize) -> Result<Self, String> {
        match raw {
            RawByteSize::Bytes(bytes) => format!("{bytes}").parse(),
            RawByteSize::Text(text) => text.parse(),
        }
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

impl TryFrom<String> for OnDisruption {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "keep" => Ok(Self::Keep),
            "freeze" => Ok(Self::Freeze),
            other => other
                .strip_prefix("signal:")
                .map(|name| name.strip_prefix("SIG").unwrap_or(name))
                .and_then(|name| SIGNALS.iter().find(|(known, _)| *known == name))
                .map(|(_, signal)| Self::Signal(*signal))
                .ok_or_else(|| {
                    format!(
                        "`{}`: expected `keep`, `freeze` or `signal:NAME` with HUP, INT, QUIT, \
                         USR1, USR2, TERM, CONT or WINCH",
                        text.escape_debug()
                    )
                }),
        }
    }
}

impl From<OnDisruption> for String {
    fn from(value: OnDisruption) -> Self {
        match value {
            OnDisruption::Keep => "keep".into(),
            OnDisruption::Freeze => "freeze".into(),
            OnDisruption::Signal(signal) => {
                let known = SIGNALS.iter().find(|(_, known)| *known == signal);
                format!("signal:{}", known.map_or("", |(name, _)| name))
            }
        }
    }
}

impl TryFrom<String> for Output {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("port:") {
            None if text == "console" => Ok(Self::Console),
            Some(name) if is_name(name) && !name.starts_with("noonmark.") => {
                Ok(Self::Port(name.into()))
            }
            _ => Err(format!(
                "`{}`: expected `console` or `port:NAME`, the name of a virtio-serial port: 1 to 64 \
                 letters, digits and `-_.@`, not one of noonmark's own",
                text.escape_debug()
            )),
        }
    }
}

impl From<Output> for String {
    fn from(output: Output) -> Self {
        match output {
            Output::Console => "console".into(),
            Output::Port(name) => format!("port:{name}"),
        }
    }
}

/// Whether this can name a service or a port: 1 to 64 letters, digits and `-_.@`.
pub(super) fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    (1..=64).contains(&name.len()) && name.bytes().all(good)
}

/// What is done to a service of a frozen guest where it says nothing.
pub(super) fn freeze() -> OnDisruption {
    OnDisruption::Freeze
}

pub(super) fn is_freeze(value: &OnDisruption) -> bool {
    *value == freeze()
}

/// How the names of folders in `/run` begin that are PID 1's.
const RESERVED: [&str; 2] = ["noonmark", "clockbound"];

/// The name of a service's own folder.
pub(super) fn is_directory(name: &str) -> bool {
    let reserved = RESERVED.iter().any(|start| name.starts_with(start));
    is_name(name) && !name.starts_with('.') && !reserved
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn what_is_done_on_a_disruption_is_read_back_as_written() {
        for text in [
            "keep",
            "freeze",
            "signal:HUP",
            "signal:USR1",
            "signal:WINCH",
        ] {
            let value = OnDisruption::try_from(text.to_string()).unwrap();
            assert_eq!(String::from(value), text);
        }
        assert_eq!(
            OnDisruption::try_from("signal:SIGHUP".to_string()),
            Ok(OnDisruption::Signal(ServiceSignal::Hup))
        );
        for text in ["", "stop", "signal:", "signal:KILL", "signal:9"] {
            assert!(OnDisruption::try_from(text.to_string()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_of_noonmarks_own_is_nobodys_output() {
        assert_eq!(
            Output::try_from("port:log".to_string()),
            Ok(Output::Port("log".into()))
        );
        for text in ["port:noonmark.status", "port:", "port:a b", "/dev/null"] {
            assert!(Output::try_from(text.to_string()).is_err(), "{text}");
        }
    }
}
