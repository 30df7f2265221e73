//! The form of `/etc/network/interfaces` (interfaces(5)), which older meta-data has under the key
//! `network-interfaces`.

use noonmark_contract::config::network::Interface;
use noonmark_contract::seed::instance::{Instance, printable};

use crate::value::{Checked, Field};

use super::entry::{self, ETHERNET_ONLY, Entry, NO_DHCP6, NO_SEARCH};

/// A stanza as far as it is read.
struct Stanza<'a> {
    name: &'a str,
    method: &'a str,
    address: Option<&'a str>,
    netmask: Option<&'a str>,
    interface: Interface,
}

/// What the stanzas `iface NAME inet METHOD` have; those of one name are one interface, and `eth0:1` is more
/// of `eth0`.
pub fn interfaces(field: &Field<'_>, instance: &mut Instance) -> Checked<Vec<Entry>> {
    let mut found: Vec<Stanza<'_>> = Vec::new();
    for line in field.text()?.lines().map(str::trim) {
        let mut words = line.split_whitespace();
        let (key, value) = (words.next().unwrap_or_default(), words.next());
        match (key, value) {
            ("" | "auto" | "allow-auto" | "allow-hotplug", _) => {}
            _ if key.starts_with('#') => {}
            ("iface", Some(name)) => {
                words.next();
                found.push(Stanza {
                    name: name.split(':').next().unwrap_or_default(),
                    method: words.next().unwrap_or_default(),
                    address: None,
                    netmask: None,
                    interface: Interface::default(),
                });
            }
            _ => match found.last_mut() {
                Some(stanza) => stanza.take(line, key, value, field, instance),
                None => instance.ignore(what(field, line), ETHERNET_ONLY),
            },
        }
    }
    let mut entries: Vec<(&str, Interface)> = Vec::new();
    for stanza in found.into_iter().filter(|stanza| stanza.name != "lo") {
        let name = stanza.name;
        match stanza.finish(field, instance) {
            Ok(interface) => match entries.iter_mut().find(|(other, _)| *other == name) {
                Some((_, before)) => join(before, interface),
                None => entries.push((name, interface)),
            },
            Err(error) => instance.refuse(error),
        }
    }
    let entry = |(name, interface)| match Entry::new(field, interface, Some(name)) {
        Ok(entry) => Some(entry),
        Err(error) => {
            instance.refuse(error);
            None
        }
    };
    Ok(entries.into_iter().filter_map(entry).collect())
}

fn what(field: &Field<'_>, line: &str) -> String {
    format!("{field}: `{}`", printable(line, 60))
}

impl<'a> Stanza<'a> {
    fn take(
        &mut self,
        line: &'a str,
        key: &str,
        value: Option<&'a str>,
        field: &Field<'_>,
        instance: &mut Instance,
    ) {
        let interface = &mut self.interface;
        let value_or_nothing = value.unwrap_or_default();
        match key {
            "address" => self.address = value,
            "netmask" => self.netmask = value,
            "network" | "broadcast" => {}
            "gateway" => match value_or_nothing.parse() {
                Ok(std::net::IpAddr::V4(router)) => interface.gateway4 = Some(router),
                Ok(std::net::IpAddr::V6(router)) => interface.gateway6 = Some(router),
                Err(_) => {
                    instance.refuse(format_args!("{}: expected an address", what(field, line)))
                }
            },
            "mtu" => match value_or_nothing.parse() {
                Ok(mtu) => interface.mtu = Some(mtu),
                Err(_) => instance.refuse(format_args!("{}: expected a number", what(field, line))),
            },
            "hwaddress" => {
                let mac = line.split_whitespace().next_back().unwrap_or_default();
                match mac.parse() {
                    Ok(mac) => interface.macaddress = Some(mac),
                    Err(error) => instance.refuse(format_args!("{}: {error}", what(field, line))),
                }
            }
            "dns-nameservers" | "dns-nameserver" => {
                for server in line.split_whitespace().skip(1) {
                    match server.parse() {
                        Ok(server) => interface.nameservers.push(server),
                        Err(_) => {
                            instance
                                .refuse(format_args!("{}: expected addresses", what(field, line)));
                        }
                    }
                }
            }
            "dns-search" | "dns-domain" => instance.ignore(what(field, line), NO_SEARCH),
            _ => instance.ignore(what(field, line), crate::value::UNKNOWN),
        }
    }

    fn finish(mut self, field: &Field<'_>, instance: &mut Instance) -> Checked<Interface> {
        match (self.method, self.address) {
            ("dhcp", _) => self.interface.dhcp4 = true,
            ("static", Some(address)) => {
                let cidr = entry::cidr(address, self.netmask, field)?;
                self.interface.addresses.push(cidr);
            }
            ("static", None) => return field.wrong(format!("{}: no `address`", self.name)),
            ("manual", _) => {}
            _ => instance.ignore(format_args!("{field}: {}", self.name), NO_DHCP6),
        }
        Ok(self.interface)
    }
}

fn join(before: &mut Interface, more: Interface) {
    before.dhcp4 |= more.dhcp4;
    before.addresses.extend(more.addresses);
    before.nameservers.extend(more.nameservers);
    before.gateway4 = before.gateway4.or(more.gateway4);
    before.gateway6 = before.gateway6.or(more.gateway6);
    before.mtu = before.mtu.or(more.mtu);
    before.macaddress = before.macaddress.or(more.macaddress);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_stanzas_upset_the_reader(
            lines in "(iface|auto|address|netmask|gateway|mtu|hwaddress|dns-nameservers| |\n|eth0|inet|static|dhcp|1|\\.|/){0,60}",
        ) {
            let node = crate::yaml::Node {
                place: crate::yaml::Place { document: "x".into(), line: 1 },
                value: crate::yaml::Value::Quoted(lines),
            };
            let _ = interfaces(&Field::root(&node), &mut Instance::default());
        }
    }
}
