//! What interfaces and time servers have to fulfil beyond what their types say, wherever they are
//! written: in `guest.toml`, on a seed, on the kernel command line.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use super::{Interface, NetworkConfig, NetworkError, NtpConfig, Server};

/// More interfaces than this no guest has.
const INTERFACES_MAX: usize = 32;

/// More addresses, or name servers, than this no interface has.
const ADDRESSES_MAX: usize = 32;

/// The smallest packet that every host must take (RFC 791, 3.1).
const MTU_MIN: u16 = 576;

impl NetworkConfig {
    /// Checks each interface, and all of them together.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn check(&self) -> Result<(), NetworkError> {
        let mut seen = BTreeSet::new();
        for (place, interface) in self.interface.iter().enumerate() {
            let wrong = |(key, problem)| NetworkError {
                place,
                key,
                problem,
            };
            if place >= INTERFACES_MAX {
                return Err(wrong(("", "there are at most 32 interfaces")));
            }
            if !seen.insert(interface.label()) {
                return Err(wrong(("", "the same interface is there twice")));
            }
            interface.check().map_err(wrong)?;
        }
        Ok(())
    }
}

impl Interface {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let has = |is_kind: fn(&core::net::IpAddr) -> bool| {
            self.addresses.iter().any(|cidr| is_kind(&cidr.address))
        };
        if self.mtu.is_some_and(|mtu| mtu < MTU_MIN) {
            return Err((".mtu", "expected 576 to 65535 bytes"));
        }
        if self.addresses.len() > ADDRESSES_MAX {
            return Err((".addresses", "expected at most 32 of them"));
        }
        if self.nameservers.len() > ADDRESSES_MAX {
            return Err((".nameservers", "expected at most 32 of them"));
        }
        if !self.dhcp4 && self.addresses.is_empty() {
            return Err((
                "",
                "it gets no address: expected `dhcp4 = true` or `addresses = [\"192.0.2.7/24\"]`",
            ));
        }
        if self.gateway4.is_some() && !self.dhcp4 && !has(core::net::IpAddr::is_ipv4) {
            return Err((
                ".gateway4",
                "it needs an IPv4 address in `addresses`, or `dhcp4`",
            ));
        }
        if self.gateway6.is_some() && !has(core::net::IpAddr::is_ipv6) {
            return Err((".gateway6", "it needs an IPv6 address in `addresses`"));
        }
        Ok(())
    }
}

impl NtpConfig {
    /// Checks a list of servers: how many, and that none is there twice.
    ///
    /// # Errors
    /// What was expected.
    pub fn check_servers(servers: &[Server]) -> Result<(), String> {
        if servers.len() > Self::SERVERS_MAX {
            return Err(format!("expected at most {} servers", Self::SERVERS_MAX));
        }
        for (place, server) in servers.iter().enumerate() {
            if servers[..place].contains(server) {
                return Err(format!("`{server}` is there twice"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            key,
            problem,
        } = self;
        write!(f, "network.interface[{place}]{key}: {problem}")
    }
}

impl core::error::Error for NetworkError {}

/// In a line, for people: `eth0 dhcp4, 192.0.2.7/24 via 192.0.2.1`.
impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())?;
        let dhcp = self.dhcp4.then(|| "dhcp4".to_string());
        let addresses = self.addresses.iter().map(ToString::to_string);
        for (place, what) in dhcp.into_iter().chain(addresses).enumerate() {
            write!(f, "{}{what}", if place == 0 { " " } else { ", " })?;
        }
        if let Some(router) = self.gateway4 {
            write!(f, " via {router}")?;
        }
        if let Some(router) = self.gateway6 {
            write!(f, " via {router}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn interface() -> Interface {
        Interface {
            name: Some("eth0".parse().expect("a name")),
            addresses: vec!["192.0.2.7/24".parse().expect("an address")],
            gateway4: Some([192, 0, 2, 1].into()),
            ..Interface::default()
        }
    }

    fn problem(interface: Vec<Interface>) -> String {
        let error = NetworkConfig { interface }.check();
        error.expect_err("something wrong").to_string()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_key() {
        assert_eq!(
            NetworkConfig {
                interface: vec![interface()]
            }
            .check(),
            Ok(())
        );
        let twice = problem(vec![interface(), interface()]);
        assert!(twice.contains("[1]: the same"), "{twice}");
        let bare = problem(vec![Interface::default()]);
        assert!(bare.contains("[0]: it gets no address"), "{bare}");
        let astray = problem(vec![Interface {
            gateway6: Some(core::net::Ipv6Addr::LOCALHOST),
            ..interface()
        }]);
        assert!(astray.contains("[0].gateway6: it needs"), "{astray}");
    }

    #[test]
    fn an_interface_is_told_in_a_line() {
        let both = Interface {
            dhcp4: true,
            ..interface()
        };
        assert_eq!(both.to_string(), "eth0 dhcp4, 192.0.2.7/24 via 192.0.2.1");
    }
}
