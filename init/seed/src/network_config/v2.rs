//! Version 2: netplan's form.

use noonmark_contract::config::network::Interface;
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, Field, UNKNOWN};
use crate::yaml::Value;

use super::entry::{self, ETHERNET_ONLY, Entry, NO_DHCP6, NO_ROUTE, NO_SEARCH, keep};

/// What `ethernets` has.
pub fn interfaces(whole: &Field<'_>, instance: &mut Instance) -> Checked<Vec<Entry>> {
    let mut found = Vec::new();
    for (key, field) in whole.entries()? {
        match key {
            "version" => {}
            "ethernets" => {
                for (id, field) in field.entries()? {
                    match ethernet(id, &field, instance) {
                        Ok(entry) => found.push(entry),
                        Err(error) => instance.refuse(error),
                    }
                }
            }
            "bonds" | "bridges" | "vlans" | "wifis" | "tunnels" | "vrfs" | "modems"
            | "dummy-devices" => field.ignore(instance, ETHERNET_ONLY),
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    Ok(found)
}

fn ethernet(id: &str, ethernet: &Field<'_>, instance: &mut Instance) -> Checked<Entry> {
    let mut interface = Interface::default();
    let (mut name, mut set_name) = (Some(id), None);
    for (key, field) in ethernet.entries()? {
        match key {
            "dhcp4" => keep(
                boolean(&field).map(|wanted| interface.dhcp4 = wanted),
                instance,
            ),
            "dhcp6" if boolean(&field).is_ok_and(|wanted| !wanted) => {}
            "dhcp6" => field.ignore(instance, NO_DHCP6),
            "addresses" => {
                for item in field.items()? {
                    let address = address(&item).and_then(|text| entry::cidr(text, None, &item));
                    keep(address.map(|cidr| interface.addresses.push(cidr)), instance);
                }
            }
            "gateway4" | "gateway6" => keep(entry::route_by(&field, &mut interface), instance),
            "mtu" => keep(
                field.parsed().map(|mtu| interface.mtu = Some(mtu)),
                instance,
            ),
            "match" => name = matched(&field, &mut interface, instance)?,
            "nameservers" => keep(nameservers(&field, &mut interface, instance), instance),
            "routes" => {
                for item in field.items()? {
                    keep(route(&item, &mut interface, instance), instance);
                }
            }
            "set-name" => set_name = Some(field.text()?),
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    // What is known by its hardware address keeps the kernel's name, unless it is to have another.
    if interface.macaddress.is_some() {
        name = set_name;
    } else if let Some(field) = ethernet.get("set-name") {
        field.ignore(instance, "it needs `match: {macaddress: ...}`");
    }
    Entry::new(ethernet, interface, name)
}

/// A boolean, with one more word for each that netplan has.
fn boolean(field: &Field<'_>) -> Checked<bool> {
    match field.text() {
        Ok("y" | "Y") => Ok(true),
        Ok("n" | "N") => Ok(false),
        _ => field.boolean(),
    }
}

/// An address; one with options has them below it.
fn address<'a>(item: &Field<'a>) -> Checked<&'a str> {
    match item.value() {
        Value::Map(options) => Ok(options.first().map_or("", |(text, _)| text)),
        _ => item.text(),
    }
}

/// By what an interface is known: its hardware address, or else its name, which may be a pattern.
fn matched<'a>(
    field: &Field<'a>,
    interface: &mut Interface,
    instance: &mut Instance,
) -> Checked<Option<&'a str>> {
    let mut name = None;
    for (key, field) in field.entries()? {
        match key {
            "macaddress" => interface.macaddress = Some(field.parsed()?),
            "name" => name = Some(field.text()?),
            // The driver that a guest's interfaces have, unless its image brings others in.
            "driver" if field.words()?.iter().any(|(word, _)| is_virtio(word)) => {}
            "driver" => field.ignore(
                instance,
                "it is not looked at which driver an interface has",
            ),
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    // Without either it is whichever there is.
    Ok(name)
}

/// Whether a pattern of drivers is one that virtio's has.
fn is_virtio(pattern: &str) -> bool {
    matches!(pattern, "virtio_net" | "virtio_*" | "virtio*" | "*")
}

fn nameservers(
    field: &Field<'_>,
    interface: &mut Interface,
    instance: &mut Instance,
) -> Checked<()> {
    for (key, field) in field.entries()? {
        match key {
            "addresses" => entry::nameservers(&field, interface, instance),
            "search" if field.words()?.is_empty() => {}
            "search" => field.ignore(instance, NO_SEARCH),
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    Ok(())
}

/// A default route is one on the link anyway, wherever its router is.
fn route(item: &Field<'_>, interface: &mut Interface, instance: &mut Instance) -> Checked<()> {
    let to = item.get("to").map_or(Ok(""), |to| to.text())?;
    match item.get("via") {
        Some(via) if entry::is_everywhere(to, None) => entry::route_by(&via, interface),
        _ => {
            item.ignore(instance, NO_ROUTE);
            Ok(())
        }
    }
}
