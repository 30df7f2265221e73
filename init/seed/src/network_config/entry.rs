//! What the forms have in common: an interface's entry, and why parts of one are ignored.

use std::net::IpAddr;

use noonmark_contract::config::network::{Cidr, Interface};
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, Field};

/// Why a route is ignored.
pub const NO_ROUTE: &str = "only the default route can be set";

/// Why a list of domains is ignored.
pub const NO_SEARCH: &str = "names are looked up as they are";

/// Why an address of IPv6 is not asked for.
pub const NO_DHCP6: &str = "there is no client of DHCPv6";

/// Why an interface that is made of others is ignored.
pub const ETHERNET_ONLY: &str = "only Ethernet interfaces can be set up";

/// The prefix length of an address that is written without one, as cloud-init has it.
const PREFIX: (u8, u8) = (24, 64);

/// An interface as a network-config has it.
pub struct Entry {
    /// Where, as in `network-config line 3: ethernets.id0`.
    pub at: String,
    /// What the guest makes of it.
    pub interface: Interface,
}

impl Entry {
    /// An entry's interface, which is known by its hardware address, and gets this name then, or by its
    /// name: the kernel's or one that udev would give it, or a pattern of them.
    pub fn new(field: &Field<'_>, mut interface: Interface, name: Option<&str>) -> Checked<Self> {
        // A pattern that any name has says nothing.
        if let Some(name) = name.filter(|name| *name != "*") {
            interface.name = Some(name.parse().or_else(|unfit| field.wrong(unfit))?);
        }
        let at = field.to_string();
        Ok(Self { at, interface })
    }

    /// Whether it gets an address; without one it is not set up.
    pub fn has_address(&self) -> bool {
        self.interface.dhcp4 || !self.interface.addresses.is_empty()
    }
}

/// Makes this router the default route's; the first one that is named stays.
pub fn route_by(field: &Field<'_>, interface: &mut Interface) -> Checked<()> {
    match field.parsed()? {
        IpAddr::V4(router) => drop(interface.gateway4.get_or_insert(router)),
        IpAddr::V6(router) => drop(interface.gateway6.get_or_insert(router)),
    }
    Ok(())
}

/// An address with its prefix length: `192.0.2.7/24`, `192.0.2.7/255.255.255.0`, or `192.0.2.7` and the
/// prefix or mask in a key of its own; else cloud-init's default.
pub fn cidr(address: &str, beside: Option<&str>, field: &Field<'_>) -> Checked<Cidr> {
    let address = address.trim();
    let (address, prefix) = match address.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (address, beside),
    };
    let Ok(parsed) = address.parse::<IpAddr>() else {
        return field.wrong(format!(
            "`{address}`: expected an address like 192.0.2.7/24"
        ));
    };
    let prefix = match (prefix.map(str::trim), parsed) {
        (None | Some(""), IpAddr::V4(_)) => PREFIX.0.to_string(),
        (None | Some(""), IpAddr::V6(_)) => PREFIX.1.to_string(),
        (Some(prefix), _) => match mask_bits(prefix) {
            Some(bits) => bits.to_string(),
            None => prefix.to_owned(),
        },
    };
    let cidr: Result<Cidr, _> = format!("{address}/{prefix}").parse();
    cidr.or_else(|unfit| field.wrong(unfit))
}

/// How many bits a mask has, as in 255.255.255.0 or ffff:ffff::.
fn mask_bits(mask: &str) -> Option<u32> {
    let (bits, width) = match mask.parse::<IpAddr>().ok()? {
        IpAddr::V4(mask) => (u128::from(u32::from(mask)) << 96, 32),
        IpAddr::V6(mask) => (u128::from(mask), 128),
    };
    let ones = bits.leading_ones();
    (bits.count_ones() == ones && ones <= width).then_some(ones)
}

/// Whether a route to this place is the default route.
pub fn is_everywhere(to: &str, prefix: Option<&str>) -> bool {
    let (network, prefix) = match to.trim().split_once('/') {
        Some((network, prefix)) => (network, Some(prefix)),
        None => (to.trim(), prefix),
    };
    let of_no_length = prefix.is_none_or(|prefix| prefix == "0" || mask_bits(prefix) == Some(0));
    match network {
        "default" => true,
        "0" => prefix.is_some() && of_no_length,
        _ => match network.parse::<IpAddr>() {
            Ok(network) => network.is_unspecified() && of_no_length,
            Err(_) => false,
        },
    }
}

/// Takes in name servers, in a list or in one text, with commas or not.
pub fn nameservers(field: &Field<'_>, interface: &mut Interface, instance: &mut Instance) {
    let words = match field.words() {
        Ok(words) => words,
        Err(error) => return instance.refuse(error),
    };
    for (word, item) in words {
        for server in word.split(',').filter(|server| !server.is_empty()) {
            match server.parse() {
                Ok(server) => interface.nameservers.push(server),
                Err(_) => instance.refuse(format_args!("{item}: expected an address")),
            }
        }
    }
}

/// Takes one part of a configuration in, or tells what is wrong with it and leaves it out.
pub fn keep(taken: Checked<()>, instance: &mut Instance) {
    if let Err(error) = taken {
        instance.refuse(error);
    }
}
