//! The guest's network interfaces, as the kernel has them now.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;
use serde::Serialize;

use crate::reply::Problem;

/// Where the kernel counts (Documentation/ABI/testing/sysfs-class-net-statistics).
const INTERFACES: &str = "/sys/class/net";

/// `GuestNetworkInterface`
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interface {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware_address: Option<String>,
    ip_addresses: Vec<IpAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<Statistics>,
}

/// `GuestIpAddress`
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct IpAddress {
    ip_address: String,
    /// `ipv4` or `ipv6`
    ip_address_type: &'static str,
    prefix: u32,
}

/// `GuestNetworkInterfaceStat`
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Statistics {
    rx_bytes: u64,
    rx_packets: u64,
    rx_errs: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errs: u64,
    tx_dropped: u64,
}

/// All of them, the loopback too.
pub fn interfaces() -> Result<Vec<Interface>, Problem> {
    let addresses =
        getifaddrs().map_err(|errno| Problem::new(format!("getifaddrs failed: {errno}")))?;
    let mut interfaces: Vec<Interface> = Vec::new();
    for address in addresses {
        let name = &address.interface_name;
        let place = interfaces.iter().position(|other| other.name == *name);
        let place = place.unwrap_or_else(|| {
            interfaces.push(Interface {
                name: name.clone(),
                hardware_address: None,
                ip_addresses: Vec::new(),
                statistics: statistics(&Path::new(INTERFACES).join(name).join("statistics")),
            });
            interfaces.len() - 1
        });
        let interface = &mut interfaces[place];
        interface.ip_addresses.extend(ip_address(&address));
        let link = address.address.as_ref();
        if let Some(mac) = link.and_then(|link| link.as_link_addr()?.addr()) {
            interface.hardware_address = Some(mac.map(|byte| format!("{byte:02x}")).join(":"));
        }
    }
    Ok(interfaces)
}

fn ip_address(address: &InterfaceAddress) -> Option<IpAddress> {
    let v4 = |address: &SockaddrStorage| Some(address.as_sockaddr_in()?.ip());
    let v6 = |address: &SockaddrStorage| Some(address.as_sockaddr_in6()?.ip());
    let (own, mask) = (address.address.as_ref()?, address.netmask.as_ref());
    if let Some(own) = v4(own) {
        let mask = mask.and_then(v4).map_or(0, Ipv4Addr::to_bits);
        return Some(IpAddress {
            ip_address: own.to_string(),
            ip_address_type: "ipv4",
            prefix: mask.count_ones(),
        });
    }
    let own = v6(own)?;
    let mask = mask.and_then(v6).map_or(0, Ipv6Addr::to_bits);
    Some(IpAddress {
        ip_address: own.to_string(),
        ip_address_type: "ipv6",
        prefix: mask.count_ones(),
    })
}

fn statistics(folder: &Path) -> Option<Statistics> {
    let count = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        text.trim().parse().ok()
    };
    Some(Statistics {
        rx_bytes: count("rx_bytes")?,
        rx_packets: count("rx_packets")?,
        rx_errs: count("rx_errors")?,
        rx_dropped: count("rx_dropped")?,
        tx_bytes: count("tx_bytes")?,
        tx_packets: count("tx_packets")?,
        tx_errs: count("tx_errors")?,
        tx_dropped: count("tx_dropped")?,
    })
}
