//! How names, addresses and servers are written, and read back.

use alloc::string::{String, ToString};
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use super::{BadText, Cidr, InterfaceName, Mac, Server};

/// The longest Ethernet interface name, in bytes (`IFNAMSIZ` less its zero).
const NAME_MAX: usize = 15;

impl fmt::Display for BadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}`: expected {}",
            self.text.escape_debug(),
            self.expected
        )
    }
}

impl core::error::Error for BadText {}

fn bad(text: &str, expected: &'static str) -> BadText {
    BadText {
        text: text.into(),
        expected,
    }
}

impl FromStr for Server {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let no = || {
            bad(
                text,
                "a server's name or address, with `:PORT` if it isn't the usual one",
            )
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(no)?;
                host.parse::<Ipv6Addr>().map_err(|_| no())?;
                match after {
                    "" => (host, None),
                    after => (host, Some(after.strip_prefix(':').ok_or_else(no)?)),
                }
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        let good = (1..=253).contains(&host.len())
            && host.bytes().all(is_name)
            && !host.starts_with(['-', '.']);
        // `u16`'s own parser takes a plus sign.
        let number = |port: &str| match port.bytes().all(|b| b.is_ascii_digit()) {
            true => port.parse().ok().filter(|port: &u16| *port > 0),
            false => None,
        };
        let port = match port.map(number) {
            None => None,
            Some(None) => return Err(no()),
            Some(port) => port,
        };
        if !good {
            return Err(no());
        }
        Ok(Self {
            host: host.into(),
            port,
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match (host.contains(':'), *port) {
            (false, None) => f.write_str(host),
            (true, None) => write!(f, "[{host}]"),
            (false, Some(port)) => write!(f, "{host}:{port}"),
            (true, Some(port)) => write!(f, "[{host}]:{port}"),
        }
    }
}

impl FromStr for InterfaceName {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let good = (1..=NAME_MAX).contains(&text.len())
            && !matches!(text, "." | ".." | "lo")
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
        if good {
            Ok(Self(text.into()))
        } else {
            Err(bad(
                text,
                "an interface's name like `eth0`, at most 15 characters",
            ))
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Mac {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        let mut next = || {
            let part = parts.next().filter(|part| part.len() == 2)?;
            part.bytes().all(|b| b.is_ascii_hexdigit()).then_some(())?;
            u8::from_str_radix(part, 16).ok()
        };
        let whole = mac
            .iter_mut()
            .all(|byte| next().map(|b| *byte = b).is_some());
        if whole && parts.next().is_none() {
            Ok(Self(mac))
        } else {
            Err(bad(text, "a hardware address like `52:54:00:12:34:56`"))
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Cidr {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| prefix.parse().ok())??;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            (prefix <= bits).then_some(Self { address, prefix })
        });
        parsed.ok_or_else(|| {
            bad(
                text,
                "an address with its prefix length like `192.0.2.7/24`",
            )
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = BadText;
            fn try_from(text: String) -> Result<Self, BadText> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}
as_text!(Server);
as_text!(InterfaceName);
as_text!(Mac);
as_text!(Cidr);

#[cfg(test)]
mod tests {
    use super::*;

    fn written<T: FromStr<Err = BadText> + fmt::Display>(text: &str) -> Option<String> {
        text.parse::<T>().ok().map(|value| value.to_string())
    }

    #[test]
    fn a_server_is_a_name_or_an_address_with_or_without_port() {
        for (text, expected) in [
            ("pool.ntp.org", Some("pool.ntp.org")),
            ("10.0.2.2:1123", Some("10.0.2.2:1123")),
            ("10.0.2.2:123", Some("10.0.2.2:123")),
            ("[2001:db8::1]:99", Some("[2001:db8::1]:99")),
            ("2001:db8::1", Some("[2001:db8::1]")),
            ("", None),
            ("host:0", None),
            ("host:+1", None),
            ("host:65536", None),
            ("[::1", None),
            ("[::1]x", None),
            ("two words", None),
            ("-x", None),
        ] {
            assert_eq!(written::<Server>(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_address_has_its_prefix() {
        for (text, good) in [
            ("192.0.2.7/24", true),
            ("2001:db8::7/64", true),
            ("192.0.2.7", false),
            ("192.0.2.7/33", false),
            ("192.0.2.7/+8", false),
            ("2001:db8::7/129", false),
            ("/8", false),
        ] {
            assert_eq!(written::<Cidr>(text).is_some(), good, "{text}");
        }
    }

    #[test]
    fn a_hardware_address_has_six_bytes() {
        let mac = "52:54:00:ab:CD:ef";
        assert_eq!(written::<Mac>(mac).unwrap(), "52:54:00:ab:cd:ef");
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:0:12:34:56",
            "+2:54:00:12:34:56",
        ] {
            assert_eq!(written::<Mac>(text), None, "{text}");
        }
    }

    #[test]
    fn an_interface_name_is_one_that_the_kernel_takes() {
        for (text, good) in [
            ("eth0", true),
            ("lo", false),
            ("a/b", false),
            ("", false),
            ("0123456789abcdef", false),
        ] {
            assert_eq!(written::<InterfaceName>(text).is_some(), good, "{text}");
        }
    }
}
