//! `[network]` and `[ntp]`: what of the network a guest uses. Nothing, where neither is there.
//!
//! The names are those of cloud-init's network configuration, version 2.

mod check;
mod text;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Utc};

/// Where PID 1 leaves what the network's programs are to do, as JSON: a [`Network`].
pub const NETWORK_FILE: &str = "/run/noonmark/network.json";

/// Where PID 1 leaves what the NTP client is to do, as JSON: an [`NtpTask`].
pub const NTP_FILE: &str = "/run/noonmark/ntp.json";

/// Where the name servers are written to; `/etc/resolv.conf` points there. Its folder, which is
/// read-only by this path, is the standard input of the program that writes it.
pub const RESOLV_CONF: &str = "/run/noonmark/net/resolv.conf";

/// The NTP client's service, whose word PID 1 takes.
pub const NTP_SERVICE: &str = "noonmark-ntp";

/// The service that sets interfaces up.
pub const NET_SERVICE: &str = "noonmark-net";

/// `[network]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// `[[network.interface]]`, in the file's order; without one there is no network.
    pub interface: Vec<Interface>,
}

/// What `noonmark-net` is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The name that the guest tells a DHCP server.
    pub hostname: String,
    /// The interfaces.
    pub interface: Vec<Interface>,
}

/// `[[network.interface]]`: one Ethernet interface and what it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interface {
    /// The kernel's name of it, e.g. `eth0`, or one that udev would give it, e.g. `ens3` or `enp0s3`, or a
    /// pattern of names, e.g. `en*`, for the first that no other entry means; with
    /// `macaddress` the name that it gets. Where neither this nor `macaddress` is given, the first
    /// Ethernet interface is meant.
    pub name: Option<InterfaceName>,
    /// Its hardware address, e.g. `52:54:00:12:34:56`.
    pub macaddress: Option<Mac>,
    /// Whether address, route and name servers come by DHCP.
    pub dhcp4: bool,
    /// Fixed addresses with their prefix lengths, e.g. `192.0.2.7/24`.
    pub addresses: Vec<Cidr>,
    /// The router of the default route.
    pub gateway4: Option<Ipv4Addr>,
    /// The router of the default route of IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// Name servers, beside those that DHCP tells.
    pub nameservers: Vec<IpAddr>,
    /// The largest packet in bytes, 576 to 65535; the driver's own where it is left out.
    pub mtu: Option<u16>,
}

/// `[ntp]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NtpConfig {
    /// The servers, at most [`NtpConfig::SERVERS_MAX`]; none is no NTP.
    pub servers: Vec<Server>,
    /// So many servers must agree before any is believed, as chrony's `minsources`.
    pub min_sources: u32,
    /// A server that may be further off than this is not used, as chrony's `maxdistance`.
    pub max_distance: Nanos,
    /// The least time between two polls once the first few are over, as the power of two in seconds,
    /// 4..=17; chrony's and ntpd's `minpoll`.
    pub min_poll: u8,
    /// The most, likewise and not less; their `maxpoll`.
    pub max_poll: u8,
    /// The file in the guest with the certificates that servers are authenticated by, in PEM;
    /// chrony's `ntstrustedcerts`. With one, all servers are asked by NTS (RFC 8915) and by nothing
    /// else.
    pub trusted_certs: Option<String>,
}

/// What `noonmark-ntp` is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NtpTask {
    /// The image's source date, from which NTP's eras are told apart.
    pub built: Utc,
    /// The servers, and what is wanted of them.
    pub config: NtpConfig,
}

/// A server's name or address, and its port: `pool.ntp.org`, `192.0.2.1:1123`, `[2001:db8::1]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Server {
    /// A host name or an address, without brackets.
    pub host: String,
    /// The port, where the text names one: NTP's UDP port, else 123, or with NTS the key
    /// establishment's TCP port, else 4460.
    pub port: Option<u16>,
}

/// An interface's name as the kernel allows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// An address in its network: `ADDRESS/PREFIX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// The network's prefix length in bits, 0..=32 or 0..=128.
    pub prefix: u8,
}

/// A text that is none of what was expected; its message says what that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadText {
    text: String,
    expected: &'static str,
}

/// What is wrong with an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError {
    /// Its place in the list, from 0.
    pub place: usize,
    /// The key, with a dot before it; empty where the interface as a whole is meant.
    pub key: &'static str,
    /// What was expected.
    pub problem: &'static str,
}

impl NtpConfig {
    /// More servers than this bring nothing but load.
    pub const SERVERS_MAX: usize = 16;

    /// What a poll interval may be, as a power of two in seconds. One that is shorter would be more
    /// than a server may be asked for long (RFC 8633, 3.2); ntpd ends at 36 hours too.
    pub const POLLS: RangeInclusive<u8> = 4..=17;

    /// The defaults, which are chrony's and ntpd's: 64 s and 1024 s.
    pub const MIN_POLL: u8 = 6;
    /// See [`NtpConfig::MIN_POLL`].
    pub const MAX_POLL: u8 = 10;

    /// A poll interval as a span.
    #[must_use]
    pub fn poll(power: u8) -> Nanos {
        Nanos::from_secs(1 << power.min(*Self::POLLS.end()))
    }
}

impl Default for NtpConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            min_sources: 1,
            max_distance: Nanos::from_millis(1_500),
            min_poll: Self::MIN_POLL,
            max_poll: Self::MAX_POLL,
            trusted_certs: None,
        }
    }
}

impl Interface {
    /// How messages name it.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.name, self.macaddress) {
            (Some(name), _) => name.0.clone(),
            (None, Some(mac)) => mac.to_string(),
            (None, None) => "the first Ethernet interface".into(),
        }
    }
}

impl InterfaceName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
