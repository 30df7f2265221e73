//! Version 1: cloud-init's own form, which Proxmox and others write.

use noonmark_contract::config::network::Interface;
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, Field, UNKNOWN};

use super::entry::{self, ETHERNET_ONLY, Entry, NO_DHCP6, NO_ROUTE, NO_SEARCH, keep};

/// What the list `config` has.
pub fn interfaces(config: &Field<'_>, instance: &mut Instance) -> Checked<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    // What stands beside the interfaces is for all of them; the guest has one list of name servers.
    let mut shared = Interface::default();
    for item in config.items()? {
        let kind = item.get("type").map_or(Ok(""), |kind| kind.text());
        let taken = kind.and_then(|kind| match kind {
            "physical" => {
                found.push(physical(&item, instance)?);
                Ok(())
            }
            "nameserver" => nameserver(&item, &mut shared, instance),
            "route" => route(&item, &mut shared, instance),
            "loopback" => Ok(()),
            "" => item.wrong("expected a `type`"),
            kind => {
                instance.ignore(format_args!("{item} of type {kind}"), ETHERNET_ONLY);
                Ok(())
            }
        });
        keep(taken, instance);
    }
    let routed = found.iter().any(|entry| entry.interface.gateway4.is_some());
    if let Some(first) = found.iter_mut().find(|entry| entry.has_address()) {
        let interface = &mut first.interface;
        interface.nameservers.append(&mut shared.nameservers);
        if !routed {
            interface.gateway4 = shared.gateway4;
        }
        interface.gateway6 = interface.gateway6.or(shared.gateway6);
    }
    Ok(found)
}

fn physical(item: &Field<'_>, instance: &mut Instance) -> Checked<Entry> {
    let mut interface = Interface::default();
    let mut name = None;
    for (key, field) in item.entries()? {
        match key {
            "type" => {}
            "name" => name = Some(field.text()?),
            "mac_address" => interface.macaddress = Some(field.parsed()?),
            "mtu" => keep(
                field.parsed().map(|mtu| interface.mtu = Some(mtu)),
                instance,
            ),
            "subnets" => {
                for subnet in field.items()? {
                    keep(self::subnet(&subnet, &mut interface, instance), instance);
                }
            }
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    Entry::new(item, interface, name)
}

fn subnet(item: &Field<'_>, interface: &mut Interface, instance: &mut Instance) -> Checked<()> {
    let Some(kind) = item.get("type") else {
        return item.wrong("expected a `type`");
    };
    match kind.text()? {
        "dhcp" | "dhcp4" => interface.dhcp4 = true,
        "static" | "static6" => {
            let Some(address) = item.get("address").or_else(|| item.get("ip_address")) else {
                return item.wrong("`address` is missing");
            };
            let beside = item.get("prefix").or_else(|| item.get("netmask"));
            let beside = beside.map(|field| field.text()).transpose()?;
            interface
                .addresses
                .push(entry::cidr(address.text()?, beside, &address)?);
        }
        "manual" => {}
        "dhcp6" => kind.ignore(instance, NO_DHCP6),
        text if text.starts_with("ipv6_") => kind.ignore(instance, NO_DHCP6),
        _ => return kind.wrong("expected dhcp4, static or static6"),
    }
    for (key, field) in item.entries()? {
        match key {
            "type" | "address" | "ip_address" | "netmask" | "prefix" | "broadcast" => {}
            "gateway" => keep(entry::route_by(&field, interface), instance),
            "dns_nameservers" => entry::nameservers(&field, interface, instance),
            "dns_search" => field.ignore(instance, NO_SEARCH),
            "routes" => {
                for item in field.items()? {
                    keep(route(&item, interface, instance), instance);
                }
            }
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    Ok(())
}

/// A route: `network` or `destination`, `netmask` or `prefix`, and `gateway`.
pub fn route(item: &Field<'_>, interface: &mut Interface, instance: &mut Instance) -> Checked<()> {
    let text = |key: &str| item.get(key).map(|field| field.text()).transpose();
    let to = text("network")?
        .or(text("destination")?)
        .unwrap_or_default();
    let prefix = text("prefix")?.or(text("netmask")?);
    match item.get("gateway") {
        Some(gateway) if entry::is_everywhere(to, prefix) => entry::route_by(&gateway, interface),
        _ => {
            item.ignore(instance, NO_ROUTE);
            Ok(())
        }
    }
}

fn nameserver(item: &Field<'_>, shared: &mut Interface, instance: &mut Instance) -> Checked<()> {
    for (key, field) in item.entries()? {
        match key {
            "type" | "interface" => {}
            "address" => entry::nameservers(&field, shared, instance),
            "search" => field.ignore(instance, NO_SEARCH),
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    Ok(())
}
