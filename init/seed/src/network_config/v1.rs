//! Version 1: cloud-init's own form, which Proxmox and others write.

use std::net::{IpAddr, Ipv4Addr};

use noonmark_contract::config::network::{Cidr, Interface};
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, UNKNOWN, get, list, map, parsed, string, words, wrong};
use crate::yaml::Node;

use super::entry::{Entry, NO_ROUTE, NO_SEARCH, route_by};

/// What the list `config` has.
pub fn interfaces(config: &Node, instance: &mut Instance) -> Checked<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    let mut servers = Vec::new();
    for (index, item) in list(config, "config")?.iter().enumerate() {
        let at = format!("network-config config[{index}]");
        let entries = map(item, &at)?;
        let kind = get(entries, "type").map_or(Ok(None), |kind| string(kind, &at))?;
        match kind.as_deref() {
            Some("physical") => found.push(physical(entries, at, instance)?),
            Some("nameserver") => servers.append(&mut nameserver(entries, &at, instance)?),
            Some(kind) => instance.ignore(format_args!("{at} of type {kind}"), UNKNOWN),
            None => return wrong(&at, "expected a `type`"),
        }
    }
    // The guest has one list for all interfaces.
    if let Some(first) = found.first_mut() {
        first.interface.nameservers.append(&mut servers);
    }
    Ok(found)
}

fn physical(entries: &[(String, Node)], at: String, instance: &mut Instance) -> Checked<Entry> {
    let mut interface = Interface::default();
    let mut name = None;
    for (key, value) in entries {
        let here = format!("{at}.{key}");
        match key.as_str() {
            "type" => {}
            "name" => name = string(value, &here)?,
            "mac_address" => interface.macaddress = Some(parsed(value, &here)?),
            "mtu" => interface.mtu = Some(parsed(value, &here)?),
            "subnets" => {
                for (index, item) in list(value, &here)?.iter().enumerate() {
                    let here = format!("{here}[{index}]");
                    subnet(map(item, &here)?, &here, &mut interface, instance)?;
                }
            }
            _ => instance.ignore(&here, UNKNOWN),
        }
    }
    Ok(Entry::new(at, name, interface))
}

fn subnet(
    entries: &[(String, Node)],
    at: &str,
    interface: &mut Interface,
    instance: &mut Instance,
) -> Checked<()> {
    let kind = get(entries, "type").map_or(Ok(None), |kind| string(kind, at))?;
    match kind.as_deref() {
        Some("dhcp" | "dhcp4") => interface.dhcp4 = true,
        Some("static" | "static6") => {
            interface.addresses.push(address(entries, at)?);
        }
        Some(kind) => {
            let what = format!("{at} of type {kind}");
            instance.ignore(what, "only dhcp4, static and static6 can be set up");
            return Ok(());
        }
        None => return wrong(at, "expected a `type`"),
    }
    for (key, value) in entries {
        let here = format!("{at}.{key}");
        match key.as_str() {
            "type" | "address" | "netmask" => {}
            "gateway" => route_by(interface, parsed(value, &here)?),
            "dns_nameservers" => interface.nameservers.append(&mut addresses(value, &here)?),
            "dns_search" => instance.ignore(&here, NO_SEARCH),
            "routes" => instance.ignore(&here, NO_ROUTE),
            _ => instance.ignore(&here, UNKNOWN),
        }
    }
    Ok(())
}

/// `192.0.2.7/24`, or an address and its netmask in a key of its own.
fn address(entries: &[(String, Node)], at: &str) -> Checked<Cidr> {
    let here = format!("{at}.address");
    let Some(value) = get(entries, "address") else {
        return wrong(&here, "is missing");
    };
    let Some(netmask) = get(entries, "netmask") else {
        return parsed(value, &here);
    };
    let text = string(value, &here)?.unwrap_or_default();
    if text.contains('/') {
        return parsed(value, &here);
    }
    let address: IpAddr = parsed(value, &here)?;
    let here = format!("{at}.netmask");
    let mask = string(netmask, &here)?.unwrap_or_default();
    let prefix = match mask.parse::<Ipv4Addr>() {
        Ok(mask) => {
            let bits = u32::from(mask);
            if bits.count_ones() != bits.leading_ones() {
                return wrong(&here, "expected a netmask like 255.255.255.0");
            }
            bits.count_ones().to_string()
        }
        Err(_) => mask,
    };
    parsed(&Node::Text(format!("{address}/{prefix}")), &here)
}

fn nameserver(
    entries: &[(String, Node)],
    at: &str,
    instance: &mut Instance,
) -> Checked<Vec<IpAddr>> {
    let mut servers = Vec::new();
    for (key, value) in entries {
        let here = format!("{at}.{key}");
        match key.as_str() {
            "type" => {}
            "address" => servers.append(&mut addresses(value, &here)?),
            "search" => instance.ignore(&here, NO_SEARCH),
            _ => instance.ignore(&here, UNKNOWN),
        }
    }
    Ok(servers)
}

fn addresses(value: &Node, at: &str) -> Checked<Vec<IpAddr>> {
    let texts = words(value, at)?.into_iter().map(Node::Text);
    texts.map(|text| parsed(&text, at)).collect()
}
