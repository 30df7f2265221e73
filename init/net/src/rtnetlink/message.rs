//! What the kernel is asked for: an address, a default route.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use noonmark_contract::config::network::Cidr;

/// An address of the interface with this number, which the kernel takes away after so many seconds.
pub(super) fn address(link: u32, cidr: Cidr, seconds: Option<u32>) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(cidr.address);
    message.header.prefix_len = cidr.prefix;
    message.header.index = link;
    message.attributes = vec![
        AddressAttribute::Local(cidr.address),
        AddressAttribute::Address(cidr.address),
    ];
    if let IpAddr::V4(address) = cidr.address
        && let Some(broadcast) = broadcast(address, cidr.prefix)
    {
        message
            .attributes
            .push(AddressAttribute::Broadcast(broadcast));
    }
    if let Some(seconds) = seconds {
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = seconds;
        lifetimes.ifa_valid = seconds;
        message
            .attributes
            .push(AddressAttribute::CacheInfo(lifetimes));
    }
    message
}

/// A default route by the interface with this number.
pub(super) fn default_route(link: u32, router: IpAddr, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(router);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    // Some networks have a router outside the prefix that they hand out.
    message.header.flags = RouteFlags::Onlink;
    message.attributes = vec![
        RouteAttribute::Gateway(router.into()),
        RouteAttribute::Oif(link),
        RouteAttribute::Priority(metric),
    ];
    message
}

/// The network's broadcast address; a network of one or two has none.
fn broadcast(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(prefix.into())?;
    (prefix < 31).then(|| Ipv4Addr::from_bits(address.to_bits() | hosts))
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broadcast_address_has_all_host_bits_set() {
        let address = Ipv4Addr::new(10, 0, 2, 15);
        assert_eq!(broadcast(address, 24), Some(Ipv4Addr::new(10, 0, 2, 255)));
        assert_eq!(broadcast(address, 0), Some(Ipv4Addr::BROADCAST));
        assert_eq!(broadcast(address, 31), None);
        assert_eq!(broadcast(address, 32), None);
    }

    #[test]
    fn the_kernel_takes_a_leased_address_away_when_the_lease_ends() {
        let lifetimes = |seconds| {
            let cidr = "10.0.2.15/24".parse().unwrap();
            let message = address(3, cidr, seconds);
            message.attributes.iter().find_map(|attribute| {
                let AddressAttribute::CacheInfo(lifetimes) = attribute else {
                    return None;
                };
                Some((lifetimes.ifa_preferred, lifetimes.ifa_valid))
            })
        };
        assert_eq!(lifetimes(Some(3600)), Some((3600, 3600)));
        assert_eq!(lifetimes(None), None);
    }

    #[test]
    fn a_default_route_has_its_interfaces_metric_so_that_no_other_replaces_it() {
        let route = default_route(3, "192.0.2.1".parse().unwrap(), 101);
        assert!(route.attributes.contains(&RouteAttribute::Oif(3)));
        assert!(route.attributes.contains(&RouteAttribute::Priority(101)));
    }
}
