//! Ports of the host's that lead to the guest's, as one writes them on a command line.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use thiserror::Error;

/// As many ports as one text may mean.
const PORTS_MAX: u16 = 1024;

/// Ports of the host's that lead to as many of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The address of the host's that they are on; where the machine's others are if none is named.
    pub on: Option<Ipv4Addr>,
    /// The first of the host's.
    pub host: u16,
    /// The first of the guest's, on whatever address it has.
    pub guest: u16,
    /// How many there are, one after the other.
    pub count: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

/// What a port is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A text that is no [`Forward`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "expected [ADDRESS:]HOST:GUEST[/udp], ports from 1 to 65535 or as many of each as a range of at most \
     1024, e.g. 8080:80, 5353:53/udp or 0.0.0.0:8000-8009:9000-9009"
)]
pub struct BadForward;

impl Forward {
    /// A TCP port of the host's that leads to one of the guest's.
    #[must_use]
    pub fn tcp(host: u16, guest: u16) -> Self {
        Self {
            on: None,
            host,
            guest,
            count: 1,
            protocol: Protocol::Tcp,
        }
    }

    /// Each port of the host's with the guest's.
    pub fn ports(&self) -> impl Iterator<Item = (u16, u16)> {
        let (host, guest) = (self.host, self.guest);
        (0..self.count).map(move |nth| (host.saturating_add(nth), guest.saturating_add(nth)))
    }
}

impl FromStr for Forward {
    type Err = BadForward;

    fn from_str(text: &str) -> Result<Self, BadForward> {
        let (text, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((text, "tcp")) => (text, Protocol::Tcp),
            Some((text, "udp")) => (text, Protocol::Udp),
            Some(_) => return Err(BadForward),
        };
        let (rest, guest) = text.rsplit_once(':').ok_or(BadForward)?;
        let (on, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, host)) => (Some(address.parse().map_err(|_| BadForward)?), host),
        };
        let ((host, count), (guest, as_many)) = (ports(host)?, ports(guest)?);
        if count != as_many {
            return Err(BadForward);
        }
        Ok(Self {
            on,
            host,
            guest,
            count,
            protocol,
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port or a range of ports: the first, and how many.
fn ports(text: &str) -> Result<(u16, u16), BadForward> {
    let port = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = port(first).zip(port(last)).ok_or(BadForward)?;
    let count = last.checked_sub(first).ok_or(BadForward)?;
    match count < PORTS_MAX {
        true => Ok((first, count + 1)),
        false => Err(BadForward),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_container_runtimes_have_them() {
        assert_eq!("8080:80".parse(), Ok(Forward::tcp(8080, 80)));
        assert_eq!("8080:80/tcp".parse(), Ok(Forward::tcp(8080, 80)));
        let range = Forward {
            on: Some(Ipv4Addr::UNSPECIFIED),
            count: 10,
            protocol: Protocol::Udp,
            ..Forward::tcp(8000, 9000)
        };
        assert_eq!("0.0.0.0:8000-8009:9000-9009/udp".parse(), Ok(range));
        assert_eq!(range.ports().last(), Some((8009, 9009)));
        for wrong in [
            "",
            "80",
            "0:80",
            "80:0",
            "80:65536",
            "80-79:1-2",
            "1-2:3",
            "1-1025:1-1025",
            "80:80/sctp",
            "host:80:80",
            "1:2:3:4",
        ] {
            assert_eq!(wrong.parse::<Forward>(), Err(BadForward), "{wrong}");
        }
    }
}
