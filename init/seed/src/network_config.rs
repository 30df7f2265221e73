//! NoCloud's `network-config`, versions 1 and 2, as far as an image's network can be so.
//!
//! What Ethernet interfaces get is taken: DHCP, addresses, default routes, name servers. Everything
//! else that a distribution could do with such a file is ignored by name.

mod entry;
mod v1;
mod v2;

use entry::Entry;
use noonmark_contract::config::network::{Interface, NetworkConfig};
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, document, get, map, string, wrong};
use crate::yaml::Node;

/// Takes in a network-config. One that has no interface which gets an address leaves the image's
/// network as it is.
///
/// # Errors
/// [`DocumentError`](crate::value::DocumentError).
pub fn read(text: &str, instance: &mut Instance) -> Checked<()> {
    let whole = document(text)?;
    let entries = match get(&whole, "network") {
        Some(inner) => map(inner, "network")?,
        None => &whole,
    };
    let config = get(entries, "config");
    if matches!(config, Some(Node::Text(word)) if word == "disabled") {
        instance.settings.network = Some(NetworkConfig::default());
        return Ok(());
    }
    let version = get(entries, "version").map_or(Ok(None), |value| string(value, "version"))?;
    let entries = match version.as_deref() {
        Some("1") => v1::interfaces(config.unwrap_or(&Node::Null), instance)?,
        Some("2") => v2::interfaces(entries, instance)?,
        _ => return wrong("version", "expected 1 or 2"),
    };
    let interface = identified(entries, instance)?;
    if !interface.is_empty() {
        instance.settings.network = Some(NetworkConfig { interface });
    }
    Ok(())
}

/// The interfaces that get an address, each with the name by which the guest knows it. There is no
/// udev here, so a name like `ens3` can only mean the one interface that there is.
fn identified(entries: Vec<Entry>, instance: &mut Instance) -> Checked<Vec<Interface>> {
    let mut interfaces = Vec::new();
    let with_address: Vec<Entry> = entries
        .into_iter()
        .filter(|entry| {
            let some = entry.interface.dhcp4 || !entry.interface.addresses.is_empty();
            if !some {
                instance.ignore(&entry.at, "it gets no address");
            }
            some
        })
        .collect();
    let only_one = with_address.len() == 1;
    for mut entry in with_address {
        match entry.name {
            None => {}
            Some(name) if is_kernels(&name) => {
                entry.interface.name = Some(name.parse().or_else(|unfit| wrong(&entry.at, unfit))?);
            }
            Some(_) if only_one => instance.ignore(
                format_args!("{}'s name", entry.at),
                "interfaces are called eth0, eth1 ... here; the first is meant",
            ),
            Some(_) => {
                instance.ignore(
                    &entry.at,
                    "interfaces are called eth0, eth1 ... here; name it so, or by its `macaddress`",
                );
                continue;
            }
        }
        interfaces.push(entry.interface);
    }
    Ok(interfaces)
}

fn is_kernels(name: &str) -> bool {
    name.strip_prefix("eth")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (String, String) {
        let mut instance = Instance::default();
        super::read(text, &mut instance).unwrap();
        instance.check().unwrap();
        let network = instance.settings.network.unwrap_or_default();
        let told: Vec<String> = network
            .interface
            .iter()
            .map(|interface| {
                let servers: Vec<_> = interface
                    .nameservers
                    .iter()
                    .map(IpAddr::to_string)
                    .collect();
                format!("{interface} dns {}", servers.join(" "))
            })
            .collect();
        (told.join("; "), instance.ignored.join("\n"))
    }

    #[test]
    fn version_2_gives_addresses_routes_and_name_servers() {
        let (told, ignored) = read(
            "network:\n  version: 2\n  ethernets:\n    eth0:\n      addresses: [192.0.2.7/24, \
             '2001:db8::7/64']\n      gateway6: 2001:db8::1\n      routes:\n      - {to: default, \
             via: 192.0.2.1}\n      - {to: 10.0.0.0/8, via: 192.0.2.2}\n      nameservers:\n        \
             addresses: [192.0.2.53]\n        search: [lan]\n    id1:\n      match: {macaddress: \
             '52:54:00:AB:cd:ef'}\n      dhcp4: true\n      dhcp6: false\n",
        );
        assert_eq!(
            told,
            "eth0 192.0.2.7/24, 2001:db8::7/64 via 192.0.2.1 via 2001:db8::1 dns 192.0.2.53; \
             52:54:00:ab:cd:ef dhcp4 dns "
        );
        assert_eq!(
            ignored,
            "network-config ethernets.eth0.routes[1]: only the default route can be set\n\
             network-config ethernets.eth0.nameservers.search: names are looked up as they are"
        );
    }

    #[test]
    fn version_1_gives_the_same_as_proxmox_and_libvirt_write_it() {
        let (told, ignored) = read(
            "version: 1\nconfig:\n    - type: physical\n      name: eth0\n      mac_address: \
             'bc:24:11:00:00:01'\n      subnets:\n      - type: static\n        address: \
             '192.0.2.7'\n        netmask: '255.255.255.0'\n        gateway: '192.0.2.1'\n    - \
             type: nameserver\n      address:\n      - '192.0.2.53'\n      search:\n      - 'lan'\n",
        );
        assert_eq!(
            told,
            "bc:24:11:00:00:01 192.0.2.7/24 via 192.0.2.1 dns 192.0.2.53"
        );
        assert_eq!(
            ignored,
            "network-config config[1].search: names are looked up as they are"
        );
    }

    #[test]
    fn one_interface_of_a_name_that_no_guest_has_is_the_first_and_of_two_none_is_guessed() {
        let one = "version: 2\nethernets:\n  ens3: {dhcp4: true}\n";
        let (told, ignored) = read(one);
        assert_eq!(told, "the first Ethernet interface dhcp4 dns ");
        assert!(ignored.contains("ens3's name: interfaces are called eth0"));
        let (told, ignored) = read(&format!("{one}  ens4: {{dhcp4: true}}\n"));
        assert_eq!(told, "");
        assert!(ignored.contains("ens4: interfaces are called"), "{ignored}");
    }

    #[test]
    fn what_no_guest_does_is_ignored_by_name() {
        let (told, ignored) = read(
            "version: 2\nrenderer: networkd\nbonds: {bond0: {interfaces: [eth0]}}\nethernets:\n  \
             eth0: {dhcp6: true, wakeonlan: true}\n",
        );
        assert_eq!(told, "");
        for named in [
            "renderer",
            "bonds",
            "eth0.dhcp6",
            "eth0.wakeonlan",
            "it gets no",
        ] {
            assert!(ignored.contains(named), "{named}: {ignored}");
        }
    }

    #[test]
    fn disabled_is_no_network() {
        let mut instance = Instance::default();
        super::read("network: {config: disabled}\n", &mut instance).unwrap();
        assert_eq!(instance.settings.network, Some(NetworkConfig::default()));
    }

    #[test]
    fn what_is_wrong_in_an_honoured_key_is_named() {
        for (text, named) in [
            ("version: 3\n", "version: expected 1 or 2"),
            (
                "version: 2\nethernets: {eth0: {addresses: [192.0.2.7]}}\n",
                "eth0.addresses: `192.0.2.7`",
            ),
            (
                "version: 1\nconfig: [{type: physical, subnets: [{type: static, address: x}]}]\n",
                "config[0].subnets[0].address",
            ),
            (
                "version: 1\nconfig: [{type: physical, subnets: [{type: static, address: \
                 192.0.2.1, netmask: 255.0.255.0}]}]\n",
                "netmask",
            ),
        ] {
            let error = super::read(text, &mut Instance::default()).unwrap_err();
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_document_upsets_the_reader(
            text in "(network|version|config|ethernets|eth0|subnets|type|static|address|: |- |\\[|\\]|\\{|\\}|,| |\n|1|2|/){0,60}",
        ) {
            let _ = super::read(&text, &mut Instance::default());
        }
    }
}
