//! OpenStack's `network_data.json`: links, the networks on them, and services, as cloud-init makes a
//! version 1 of it.

use noonmark_contract::config::network::Interface;
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, Field, UNKNOWN};

use super::entry::{self, ETHERNET_ONLY, Entry, NO_DHCP6, NO_SEARCH, keep};
use super::v1;

/// What the document has.
pub fn interfaces(whole: &Field<'_>, instance: &mut Instance) -> Checked<Vec<Entry>> {
    for (key, field) in whole.entries()? {
        if !["links", "networks", "services"].contains(&key) {
            field.ignore(instance, UNKNOWN);
        }
    }
    let (links, networks) = (list(whole, "links")?, list(whole, "networks")?);
    let mut found: Vec<Entry> = Vec::new();
    let mut ids = Vec::new();
    for item in &links {
        let taken = text(item, "id").and_then(|id| {
            ids.push(id);
            let on_it = networks.iter();
            let on_it = on_it.filter(|network| text(network, "link").is_ok_and(|link| link == id));
            found.extend(link(item, on_it, instance)?);
            Ok(())
        });
        keep(taken, instance);
    }
    for network in &networks {
        let taken = match text(network, "link")? {
            link if ids.contains(&link) => Ok(()),
            _ => network.wrong("its `link` is none of the links"),
        };
        keep(taken, instance);
    }
    let mut shared = Interface::default();
    services(whole, &mut shared, instance)?;
    if let Some(first) = found.iter_mut().find(|entry| entry.has_address()) {
        let servers = &mut first.interface.nameservers;
        servers.extend(shared.nameservers);
    }
    // One that is named for each network counts once.
    let mut seen = Vec::new();
    for entry in &mut found {
        entry.interface.nameservers.retain(|server| {
            let is_new = !seen.contains(server);
            seen.extend(is_new.then_some(*server));
            is_new
        });
    }
    Ok(found)
}

fn list<'a>(field: &Field<'a>, key: &str) -> Checked<Vec<Field<'a>>> {
    field.get(key).map_or(Ok(Vec::new()), |list| list.items())
}

fn text<'a>(field: &Field<'a>, key: &str) -> Checked<&'a str> {
    field.get(key).map_or(Ok(""), |field| field.text())
}

/// An Ethernet interface, with the networks on it; of what kind the host's end of it is says nothing to
/// the guest.
fn link<'n, 'a: 'n>(
    item: &Field<'a>,
    networks: impl Iterator<Item = &'n Field<'a>>,
    instance: &mut Instance,
) -> Checked<Option<Entry>> {
    if let kind @ ("bond" | "vlan") = text(item, "type")? {
        instance.ignore(format_args!("{item} of type {kind}"), ETHERNET_ONLY);
        return Ok(None);
    }
    let mut interface = Interface::default();
    let mut name = None;
    for (key, field) in item.entries()? {
        match key {
            "id" | "type" | "vif_id" => {}
            "name" => name = Some(field.text()?),
            "ethernet_mac_address" => interface.macaddress = Some(field.parsed()?),
            "mtu" => keep(
                field.parsed().map(|mtu| interface.mtu = Some(mtu)),
                instance,
            ),
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    if name.is_none() && interface.macaddress.is_none() {
        return item.wrong("`ethernet_mac_address` is missing");
    }
    for network in networks {
        keep(self::network(network, &mut interface, instance), instance);
    }
    Entry::new(item, interface, name).map(Some)
}

fn network(item: &Field<'_>, interface: &mut Interface, instance: &mut Instance) -> Checked<()> {
    match text(item, "type")? {
        "ipv4_dhcp" => interface.dhcp4 = true,
        "ipv4" | "ipv6" | "static" | "static6" => {
            let Some(address) = item.get("ip_address") else {
                return item.wrong("`ip_address` is missing");
            };
            let mask = item.get("netmask").map(|mask| mask.text()).transpose()?;
            let cidr = entry::cidr(address.text()?, mask, &address)?;
            interface.addresses.push(cidr);
        }
        kind if kind.starts_with("ipv6_") => item.ignore(instance, NO_DHCP6),
        _ => return item.wrong("its `type` is none of ipv4, ipv6 and ipv4_dhcp"),
    }
    for (key, field) in item.entries()? {
        match key {
            "id" | "network_id" | "link" | "type" | "ip_address" | "netmask" | "broadcast" => {}
            "gateway" => keep(entry::route_by(&field, interface), instance),
            "dns_nameservers" => entry::nameservers(&field, interface, instance),
            "dns_search" => field.ignore(instance, NO_SEARCH),
            "services" => keep(services(item, interface, instance), instance),
            "routes" => {
                for route in field.items()? {
                    keep(v1::route(&route, interface, instance), instance);
                }
            }
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    Ok(())
}

/// Name servers.
fn services(field: &Field<'_>, interface: &mut Interface, instance: &mut Instance) -> Checked<()> {
    for item in list(field, "services")? {
        match item.get("address") {
            Some(address) if text(&item, "type")? == "dns" => {
                entry::nameservers(&address, interface, instance);
            }
            _ => item.ignore(instance, UNKNOWN),
        }
    }
    Ok(())
}
