//! Version 2: netplan's form.

use noonmark_contract::config::network::Interface;
use noonmark_contract::seed::instance::{Instance, printable};

use crate::value::{Checked, UNKNOWN, boolean, get, list, map, parsed, string};
use crate::yaml::Node;

use super::entry::{Entry, NO_ROUTE, NO_SEARCH, route_by};

/// Where a default route leads to, as people write it.
const EVERYWHERE: [&str; 5] = ["default", "0.0.0.0/0", "::/0", "0/0", "0.0.0.0"];

/// What `ethernets` has.
pub fn interfaces(entries: &[(String, Node)], instance: &mut Instance) -> Checked<Vec<Entry>> {
    let mut found = Vec::new();
    for (key, value) in entries {
        match key.as_str() {
            "version" => {}
            "ethernets" => {
                for (id, value) in map(value, key)? {
                    found.push(ethernet(id, value, instance)?);
                }
            }
            _ => instance.ignore(format_args!("network-config {key}"), UNKNOWN),
        }
    }
    Ok(found)
}

fn ethernet(id: &str, value: &Node, instance: &mut Instance) -> Checked<Entry> {
    let at = printable(&format!("network-config ethernets.{id}"), 80);
    let mut interface = Interface::default();
    let mut name = Some(id.to_owned());
    for (key, value) in map(value, &at)? {
        let here = format!("{at}.{key}");
        match key.as_str() {
            "dhcp4" => interface.dhcp4 = boolean(value, &here)?,
            "dhcp6" if !boolean(value, &here)? => {}
            "dhcp6" => instance.ignore(&here, "there is no client of DHCPv6"),
            "addresses" => {
                for item in list(value, &here)? {
                    // An address with options has them below it.
                    let address = match item {
                        Node::Map(options) => options.first().map(|(text, _)| text.clone()),
                        _ => string(item, &here)?,
                    };
                    let address = Node::Text(address.unwrap_or_default());
                    interface.addresses.push(parsed(&address, &here)?);
                }
            }
            "gateway4" => interface.gateway4 = Some(parsed(value, &here)?),
            "gateway6" => interface.gateway6 = Some(parsed(value, &here)?),
            "mtu" => interface.mtu = Some(parsed(value, &here)?),
            "match" => name = matched(value, &here, &mut interface, instance)?,
            "nameservers" => nameservers(value, &here, &mut interface, instance)?,
            "routes" => routes(value, &here, &mut interface, instance)?,
            _ => instance.ignore(&here, UNKNOWN),
        }
    }
    Ok(Entry::new(at, name, interface))
}

/// By what an interface is known: its hardware address, or else its name, which may be a pattern.
fn matched(
    value: &Node,
    at: &str,
    interface: &mut Interface,
    instance: &mut Instance,
) -> Checked<Option<String>> {
    let mut name = None;
    for (key, value) in map(value, at)? {
        let here = format!("{at}.{key}");
        match key.as_str() {
            "macaddress" => interface.macaddress = Some(parsed(value, &here)?),
            "name" => name = string(value, &here)?,
            _ => instance.ignore(&here, UNKNOWN),
        }
    }
    // Without either it is whichever there is, which a name that the kernel never gives means too.
    Ok(Some(name.unwrap_or_else(|| "*".into())))
}

fn nameservers(
    value: &Node,
    at: &str,
    interface: &mut Interface,
    instance: &mut Instance,
) -> Checked<()> {
    for (key, value) in map(value, at)? {
        let here = format!("{at}.{key}");
        match key.as_str() {
            "addresses" => {
                for item in list(value, &here)? {
                    interface.nameservers.push(parsed(item, &here)?);
                }
            }
            "search" if list(value, &here)?.is_empty() => {}
            "search" => instance.ignore(&here, NO_SEARCH),
            _ => instance.ignore(&here, UNKNOWN),
        }
    }
    Ok(())
}

fn routes(
    value: &Node,
    at: &str,
    interface: &mut Interface,
    instance: &mut Instance,
) -> Checked<()> {
    for (index, item) in list(value, at)?.iter().enumerate() {
        let here = format!("{at}[{index}]");
        let route = map(item, &here)?;
        let to = get(route, "to").map_or(Ok(None), |to| string(to, &here))?;
        match get(route, "via") {
            Some(via) if EVERYWHERE.contains(&to.unwrap_or_default().as_str()) => {
                route_by(interface, parsed(via, &format!("{here}.via"))?);
            }
            _ => instance.ignore(&here, NO_ROUTE),
        }
    }
    Ok(())
}
