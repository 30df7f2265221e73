//! What versions 1 and 2 have in common: an interface's entry, and why parts of one are ignored.

use std::net::IpAddr;

use noonmark_contract::config::network::Interface;

/// Why a route is ignored.
pub const NO_ROUTE: &str = "only the default route can be set";

/// Why a list of domains is ignored.
pub const NO_SEARCH: &str = "names are looked up as they are";

/// An interface as a network-config has it.
pub struct Entry {
    /// Where, as in `network-config ethernets.id0`.
    pub at: String,
    /// Its name there; none where it is known by its hardware address.
    pub name: Option<String>,
    /// What the guest makes of it.
    pub interface: Interface,
}

impl Entry {
    pub fn new(at: String, name: Option<String>, interface: Interface) -> Self {
        Self {
            at,
            name: name.filter(|_| interface.macaddress.is_none()),
            interface,
        }
    }
}

/// Makes this router the default route's.
pub fn route_by(interface: &mut Interface, router: IpAddr) {
    match router {
        IpAddr::V4(router) => interface.gateway4 = Some(router),
        IpAddr::V6(router) => interface.gateway6 = Some(router),
    }
}
