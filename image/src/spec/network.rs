//! The checks of `[network]` and `[ntp]`.

use std::collections::BTreeSet;

use noonmark_sync::config::ClockConfig;
use noonmark_sync::config::network::{Interface, NetworkConfig, NtpConfig, Server};
use noonmark_sync::sample::Source;
use noonmark_sync::units::Nanos;
use toml::Spanned;

use super::check::{Checked, number};
use super::raw::{RawNetwork, RawNtp};
use crate::text::Place;

pub(super) fn network(raw: RawNetwork, place: &Place<'_>) -> Checked<NetworkConfig> {
    let mut seen = BTreeSet::new();
    let mut interfaces = Vec::new();
    for raw in raw.interface {
        let span = raw.span();
        let interface = raw.into_inner();
        let bad = |key: &str, problem: &str| {
            let key = format!("network.interface{key}");
            Err(place.error(Some(span.clone()), key, problem))
        };
        if interface.name.is_some() && interface.macaddress.is_some() {
            return bad("", "expected `name` or `macaddress`, not both");
        }
        if !seen.insert(interface.label()) {
            return bad("", "the same interface is there twice");
        }
        if interface.mtu.is_some_and(|mtu| mtu < 576) {
            return bad(".mtu", "expected 576 to 65535 bytes");
        }
        let Interface {
            addresses,
            gateway4,
            gateway6,
            ..
        } = &interface;
        if !interface.dhcp4 && addresses.is_empty() {
            return bad(
                "",
                "it gets no address: expected `dhcp4 = true` or `addresses = [\"192.0.2.7/24\"]`",
            );
        }
        if gateway4.is_some() && !addresses.iter().any(|a| a.address.is_ipv4()) {
            return bad(".gateway4", "it needs an IPv4 address in `addresses`");
        }
        if gateway6.is_some() && !addresses.iter().any(|a| a.address.is_ipv6()) {
            return bad(".gateway6", "it needs an IPv6 address in `addresses`");
        }
        interfaces.push(interface);
    }
    Ok(NetworkConfig {
        interface: interfaces,
    })
}

pub(super) fn ntp(
    raw: RawNtp,
    clock: &ClockConfig,
    network: &NetworkConfig,
    place: &Place<'_>,
) -> Checked<NtpConfig> {
    let default = NtpConfig::default();
    let follows = clock.sources.contains(&Source::Ntp);
    let Some(list) = raw.servers else {
        return if follows {
            let problem = "the clock source `ntp` needs time servers: servers = [\"pool.ntp.org\"]";
            Err(place.error(None, "ntp.servers", problem))
        } else {
            Ok(default)
        };
    };
    let span = list.span();
    let list = list.into_inner();
    let bad = |problem: String| Err(place.error(Some(span.clone()), "ntp.servers", problem));
    if !(1..=NtpConfig::SERVERS_MAX).contains(&list.len()) {
        return bad(format!("expected 1 to {} servers", NtpConfig::SERVERS_MAX));
    }
    if !follows {
        return bad("the servers are of no use without \"ntp\" in `clock.sources`".into());
    }
    if network.interface.is_empty() {
        return bad("a time server needs a network: [[network.interface]]".into());
    }
    let mut servers: Vec<Server> = Vec::new();
    for server in list.into_iter().map(Spanned::into_inner) {
        if servers.contains(&server) {
            return bad(format!("`{server}` is there twice"));
        }
        servers.push(server);
    }
    let most = u32::try_from(servers.len()).unwrap_or(u32::MAX);
    Ok(NtpConfig {
        min_sources: number(raw.min_sources, "ntp.min_sources", 1..=most, place)?
            .unwrap_or(default.min_sources),
        max_distance: number(
            raw.max_distance_ms,
            "ntp.max_distance_ms",
            1..=16_000,
            place,
        )?
        .map_or(default.max_distance, |ms| Nanos::from_millis(ms.into())),
        servers,
    })
}
