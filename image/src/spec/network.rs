//! The checks of `[network]` and `[ntp]`.

use noonmark_contract::config::ClockConfig;
use noonmark_contract::config::network::{Interface, NetworkConfig, NtpConfig, Server};
use noonmark_contract::sample::Source;
use noonmark_contract::units::Nanos;
use toml::Spanned;

use crate::text::TomlDocument;

use super::FileSpec;
use super::raw::{Key, RawNetwork, RawNtp};
use super::value::{Checked, number};

pub(super) fn network(raw: RawNetwork, doc: &TomlDocument<'_>) -> Checked<NetworkConfig> {
    let (spans, interface): (Vec<_>, Vec<Interface>) = raw
        .interface
        .into_iter()
        .map(|raw| (raw.span(), raw.into_inner()))
        .unzip();
    let network = NetworkConfig { interface };
    network.check().map_err(|error| {
        let key = format!("network.interface{}", error.key);
        doc.error(spans.get(error.place).cloned(), key, error.problem)
    })?;
    Ok(network)
}

pub(super) fn ntp(
    raw: RawNtp,
    clock: &ClockConfig,
    network: &NetworkConfig,
    files: &[FileSpec],
    doc: &TomlDocument<'_>,
) -> Checked<NtpConfig> {
    let default = NtpConfig::default();
    let follows = clock.sources.contains(&Source::Ntp);
    let Some(list) = raw.servers else {
        return if follows {
            let problem = "the clock source `ntp` needs time servers: servers = [\"pool.ntp.org\"]";
            Err(doc.error(None, "ntp.servers", problem))
        } else {
            Ok(default)
        };
    };
    let span = list.span();
    let list = list.into_inner();
    let bad = |problem: String| Err(doc.error(Some(span.clone()), "ntp.servers", problem));
    if list.is_empty() {
        return bad(format!("expected 1 to {} servers", NtpConfig::SERVERS_MAX));
    }
    if !follows {
        return bad("the servers are of no use without \"ntp\" in `clock.sources`".into());
    }
    if network.interface.is_empty() {
        return bad("a time server needs a network: [[network.interface]]".into());
    }
    let servers: Vec<Server> = list.into_iter().map(Spanned::into_inner).collect();
    if let Err(problem) = NtpConfig::check_servers(&servers) {
        return bad(problem);
    }
    let most = u32::try_from(servers.len()).unwrap_or(u32::MAX);
    let (min_poll, max_poll) = polls(raw.min_poll, raw.max_poll, doc)?;
    Ok(NtpConfig {
        min_sources: number(raw.min_sources, "ntp.min_sources", 1..=most, doc)?
            .unwrap_or(default.min_sources),
        max_distance: number(raw.max_distance_ms, "ntp.max_distance_ms", 1..=16_000, doc)?
            .map_or(default.max_distance, |ms| Nanos::from_millis(ms.into())),
        min_poll,
        max_poll,
        trusted_certs: trusted_certs(raw.trusted_certs, files, doc)?,
        servers,
    })
}

/// The powers of two between which the poll interval moves. Where only one is given, the other
/// gives way.
fn polls(min: Key<i64>, max: Key<i64>, doc: &TomlDocument<'_>) -> Checked<(u8, u8)> {
    let all = u32::from(*NtpConfig::POLLS.start())..=u32::from(*NtpConfig::POLLS.end());
    let poll = |value, key| -> Checked<Option<u8>> {
        Ok(number(value, key, all.clone(), doc)?.and_then(|power| power.try_into().ok()))
    };
    let span = max.as_ref().map(Spanned::span);
    let given = (poll(min, "ntp.min_poll")?, poll(max, "ntp.max_poll")?);
    let (least, most) = (NtpConfig::MIN_POLL, NtpConfig::MAX_POLL);
    match given {
        (Some(min), Some(max)) if max < min => {
            let problem = format!("{max}: expected at least `min_poll`, which is {min}");
            Err(doc.error(span, "ntp.max_poll", problem))
        }
        (Some(min), max) => Ok((min, max.unwrap_or(most.max(min)))),
        (None, max) => Ok((least.min(max.unwrap_or(most)), max.unwrap_or(most))),
    }
}

/// The certificates have to be a file of the image.
fn trusted_certs(
    path: Key<String>,
    files: &[FileSpec],
    doc: &TomlDocument<'_>,
) -> Checked<Option<String>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let span = path.span();
    let path = path.into_inner();
    if files.iter().any(|file| file.path == path) {
        return Ok(Some(path));
    }
    let problem = format!(
        "`{path}` is no file of the image; name the certificates by a [[file]] with this `path`"
    );
    Err(doc.error(Some(span), "ntp.trusted_certs", problem))
}
