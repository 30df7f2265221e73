//! NoCloud's `network-config`, versions 1 and 2, as far as an image's network can be so; OpenStack's
//! `network_data.json`; and the form of `/etc/network/interfaces` that older meta-data has.
//!
//! What Ethernet interfaces get is taken: DHCP, addresses, default routes, name servers. What is wrong
//! is left out and told, as little of it as possible. Everything else that a distribution could do with
//! such a file is ignored by name.

mod entry;
mod interfaces;
mod openstack;
mod v1;
mod v2;

use entry::Entry;
use noonmark_contract::config::network::NetworkConfig;
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, Field, document};

/// Takes in a network-config. One that has no interface which gets an address leaves the image's
/// network as it is.
///
/// # Errors
/// [`DocumentError`](crate::value::DocumentError).
pub fn read(text: &str, instance: &mut Instance) -> Checked<()> {
    let root = document("network-config", text, instance)?;
    take(&Field::root(&root), instance)
}

/// Takes in what a network-config has, wherever it is written.
///
/// # Errors
/// As [`read`].
pub fn take(whole: &Field<'_>, instance: &mut Instance) -> Checked<()> {
    let whole = whole.get("network").unwrap_or_else(|| whole.clone());
    let config = whole.get("config");
    if let Some(config) = config
        .as_ref()
        .filter(|config| matches!(config.text(), Ok("disabled")))
    {
        instance.settings.network = Some(NetworkConfig::default());
        config.take(instance);
        return Ok(());
    }
    let version = whole.get("version");
    let version = version.map_or(Ok(""), |version| version.text())?.trim();
    // As a number 2.0 is 2.
    let version = version.strip_suffix(".0").unwrap_or(version);
    let entries = match (version, config) {
        ("1", Some(config)) => v1::interfaces(&config, instance)?,
        ("1", None) => Vec::new(),
        ("2", _) => v2::interfaces(&whole, instance)?,
        _ => return whole.wrong("expected a `version`, 1 or 2"),
    };
    set(entries, instance);
    Ok(())
}

/// Takes in what `/etc/network/interfaces` would have (interfaces(5)).
///
/// # Errors
/// If it is no text.
pub fn take_interfaces(field: &Field<'_>, instance: &mut Instance) -> Checked<()> {
    let entries = interfaces::interfaces(field, instance)?;
    set(entries, instance);
    Ok(())
}

/// Takes in what OpenStack's `network_data.json` has.
///
/// # Errors
/// If it has no lists where they belong.
pub fn take_openstack(whole: &Field<'_>, instance: &mut Instance) -> Checked<()> {
    let entries = openstack::interfaces(whole, instance)?;
    set(entries, instance);
    Ok(())
}

/// Sets those interfaces up that get an address. What is wrong with one is told and left out: the key alone
/// where an interface can do without it.
fn set(entries: Vec<Entry>, instance: &mut Instance) {
    let mut config = NetworkConfig::default();
    'entries: for entry in entries {
        let has_address = entry.has_address();
        let at = entry.at;
        if !has_address {
            instance.ignore(&at, "it gets no address");
            continue;
        }
        config.interface.push(entry.interface);
        while let Err(error) = config.check() {
            instance.refuse(format_args!("{at}{}: {}", error.key, error.problem));
            let Some(mut interface) = config.interface.pop() else {
                break;
            };
            match error.key {
                ".mtu" => interface.mtu = None,
                ".gateway4" => interface.gateway4 = None,
                ".gateway6" => interface.gateway6 = None,
                _ => continue 'entries,
            }
            config.interface.push(interface);
        }
        instance.take(at);
    }
    if !config.interface.is_empty() {
        instance.settings.network = Some(config);
    }
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
            "network-config line 9: network.ethernets.eth0.routes[1]: only the default route can be \
             set\nnetwork-config line 12: network.ethernets.eth0.nameservers.search: names are looked \
             up as they are"
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
        assert_eq!(told, "eth0 192.0.2.7/24 via 192.0.2.1 dns 192.0.2.53");
        assert_eq!(
            ignored,
            "network-config line 15: config[1].search: names are looked up as they are"
        );
    }

    #[test]
    fn interfaces_keep_the_names_and_patterns_that_they_are_given() {
        let (told, ignored) = read(
            "version: 2\nethernets:\n  ens18: {dhcp4: true}\n  ens19: {addresses: [192.0.2.7/24]}\n  \
             rest: {match: {name: 'en*'}, dhcp4: y}\n  any: {match: {name: '*'}, dhcp4: on}\n",
        );
        assert_eq!(
            told,
            "ens18 dhcp4 dns ; ens19 192.0.2.7/24 dns ; en* dhcp4 dns ; \
             the first Ethernet interface dhcp4 dns "
        );
        assert_eq!(ignored, "");
    }

    #[test]
    fn a_key_without_a_value_is_as_if_it_were_not_there() {
        let (told, ignored) = read(
            "version: '2'\nethernets:\n  eth0:\n    addresses: [192.0.2.7/24]\n    gateway4: null\n    \
             mtu:\n    nameservers:\n    routes: ~\n",
        );
        assert_eq!((&*told, &*ignored), ("eth0 192.0.2.7/24 dns ", ""));
    }

    #[test]
    fn a_prefix_is_a_length_or_a_mask_or_cloud_inits_default() {
        for (subnet, address) in [
            ("address: 192.0.2.7", "192.0.2.7/24"),
            ("address: '2001:db8::7'", "2001:db8::7/64"),
            ("address: 192.0.2.7, prefix: 26", "192.0.2.7/26"),
            (
                "address: 192.0.2.7, netmask: 255.255.255.192",
                "192.0.2.7/26",
            ),
            ("address: 192.0.2.7/255.255.0.0", "192.0.2.7/16"),
            ("address: 192.0.2.7, netmask: 20", "192.0.2.7/20"),
            (
                "address: '2001:db8::7', netmask: 'ffff:ffff::'",
                "2001:db8::7/32",
            ),
        ] {
            let (told, _) = read(&format!(
                "version: 1\nconfig:\n- {{type: physical, name: eth0, subnets: [{{type: static, {subnet}}}]}}\n"
            ));
            assert_eq!(told, format!("eth0 {address} dns "));
        }
    }

    #[test]
    fn a_default_route_is_taken_in_each_way_to_write_it() {
        for route in [
            "routes: [{to: default, via: 192.0.2.1}]",
            "routes: [{to: 0.0.0.0/0, via: 192.0.2.1, on-link: true}]",
            "routes: [{to: 0/0, via: 192.0.2.1}]",
            "gateway4: 192.0.2.1",
        ] {
            let (told, ignored) = read(&format!(
                "version: 2\nethernets: {{eth0: {{dhcp4: true, {route}}}}}\n"
            ));
            assert_eq!(
                (&*told, &*ignored),
                ("eth0 dhcp4 via 192.0.2.1 dns ", ""),
                "{route}"
            );
        }
        for route in [
            "{network: 0.0.0.0, netmask: 0.0.0.0, gateway: 192.0.2.1}",
            "{destination: 0.0.0.0/0, gateway: 192.0.2.1}",
        ] {
            let interface = "{type: physical, name: eth0, subnets: [{type: dhcp4, routes: [R]}]}";
            let beside = "{type: physical, name: eth0, subnets: [{type: dhcp}]}\n- R";
            for form in [interface, beside] {
                let item = form.replace('R', route).replace("- {", "- {type: route, ");
                let (told, ignored) = read(&format!("version: 1\nconfig:\n- {item}\n"));
                assert_eq!(
                    (&*told, &*ignored),
                    ("eth0 dhcp4 via 192.0.2.1 dns ", ""),
                    "{item}"
                );
            }
        }
    }

    #[test]
    fn what_stands_in_the_form_of_etc_network_interfaces_is_taken() {
        let mut instance = Instance::default();
        let text = "network-interfaces: |\n  auto lo eth0\n  iface lo inet loopback\n  iface eth0 inet \
                    static\n    address 192.0.2.7\n    netmask 255.255.255.0\n    gateway 192.0.2.1\n    \
                    dns-nameservers 192.0.2.53 192.0.2.54\n    up echo\n  iface eth1 inet dhcp\n  iface \
                    eth1:0 inet static\n    address 192.0.2.8/24\n  iface much-too-long-a-name inet dhcp\n";
        crate::meta_data::read(text, false, false, &mut instance).unwrap();
        let network = instance.settings.network.clone().unwrap();
        let told: Vec<String> = network.interface.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "eth0 192.0.2.7/24 via 192.0.2.1",
                "eth1 dhcp4, 192.0.2.8/24"
            ]
        );
        assert_eq!(network.interface[0].nameservers.len(), 2);
        assert!(instance.ignored[0].contains("`up echo`"), "{instance:?}");
        assert!(
            instance.refused[0].contains("`much-too-long-a-name`") && instance.refused.len() == 1,
            "{instance:?}"
        );
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
    fn the_driver_of_virtio_is_every_interfaces_and_another_is_told() {
        for (driver, told) in [
            ("virtio_net", false),
            ("['mlx5*', 'virtio*']", false),
            ("e1000", true),
        ] {
            let (interfaces, ignored) = read(&format!(
                "version: 2\nethernets: {{a: {{match: {{driver: {driver}}}, dhcp4: true}}}}\n"
            ));
            assert_eq!(interfaces, "the first Ethernet interface dhcp4 dns ");
            assert_eq!(
                ignored.contains("a.match.driver: "),
                told,
                "{driver}: {ignored}"
            );
        }
    }

    #[test]
    fn disabled_is_no_network() {
        let mut instance = Instance::default();
        super::read("network: {config: disabled}\n", &mut instance).unwrap();
        assert_eq!(instance.settings.network, Some(NetworkConfig::default()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_the_rest_counts() {
        let eth1 = "eth1: {dhcp4: true}";
        for (text, named, rest) in [
            (
                format!("version: 2\nethernets: {{eth0: {{addresses: [x, 192.0.2.7/24]}}, {eth1}}}\n"),
                "line 2: ethernets.eth0.addresses[0]: `x`",
                2,
            ),
            (
                format!("version: 2\nethernets: {{eth0: {{dhcp4: maybe}}, {eth1}}}\n"),
                "ethernets.eth0.dhcp4: expected true or false",
                1,
            ),
            (
                "version: 2\nethernets: {eth0: {dhcp4: maybe, addresses: [192.0.2.7/24]}}\n".into(),
                "ethernets.eth0.dhcp4: expected true or false",
                1,
            ),
            (
                format!("version: 2\nethernets: {{eth0: {{dhcp4: true, mtu: 9}}, {eth1}}}\n"),
                "ethernets.eth0.mtu: expected 576",
                2,
            ),
            (
                "version: 2\nethernets: {eth0: {addresses: [192.0.2.7/24], gateway6: 'fe80::1'}}\n".into(),
                "ethernets.eth0.gateway6: it needs an IPv6 address",
                1,
            ),
            (
                "version: 2.0\nethernets: {eth0: {addresses: ['2001:db8::7/64'], gateway4: 192.0.2.1}}\n".into(),
                "ethernets.eth0.gateway4: it needs an IPv4 address",
                1,
            ),
            (
                "version: 1\nconfig: [{type: physical, name: eth1, subnets: [{type: dhcp}]}, {name: a}]\n".into(),
                "config[1]: expected a `type`",
                1,
            ),
            (
                "version: 1\nconfig: [{type: physical, subnets: [{type: static, address: 192.0.2.1, \
                 netmask: 255.0.255.0}, {type: dhcp}]}]\n"
                    .into(),
                "255.0.255.0",
                1,
            ),
        ] {
            let mut instance = Instance::default();
            super::read(&text, &mut instance).unwrap();
            let [refused] = instance.refused.as_slice() else {
                panic!("{text}: {instance:?}");
            };
            assert!(refused.starts_with("network-config line "), "{refused}");
            assert!(refused.contains(named), "{text}: {refused}");
            assert_eq!(instance.settings.network.unwrap().interface.len(), rest, "{text}");
        }
        let error = super::read("version: 3\n", &mut Instance::default()).unwrap_err();
        assert!(
            error.to_string().contains("expected a `version`, 1 or 2"),
            "{error}"
        );
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
