//! Settings that one instance of an image may have of its own, and which of image, seed and kernel
//! command line has the last word on each.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::record::{Effective, Origin};
use crate::sample::Source;
use crate::units::Nanos;

use super::BootConfig;
use super::network::{NetworkConfig, NtpConfig, Server};
use super::values::{Hostname, IntervalMs, StepUs, SysctlName, SysctlValue, Unfit, WatchMs};

/// What the kernel command line's words for PID 1 begin with.
pub const CMDLINE_PREFIX: &str = "noonmark.";

/// How status records name the interfaces and the time servers.
const NETWORK: &str = "network.interface";
const NTP_SERVERS: &str = "ntp.servers";

/// What a seed or the kernel command line sets; the names are those of `guest.toml`. What is left
/// out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The guest's host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// `[clock]`
    pub clock: ClockSettings,
    /// `[status]`
    pub status: StatusSettings,
    /// `[sysctl]`
    pub sysctl: BTreeMap<SysctlName, SysctlValue>,
    /// `[network]`: all interfaces, in the place of the image's; none of them is no network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkConfig>,
    /// `[ntp]`
    pub ntp: NtpSettings,
}

/// `[ntp]`, as far as an instance may change it. How many servers must agree is the image's word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NtpSettings {
    /// The servers, in the place of the image's; none of them is no NTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<Server>>,
}

/// `[clock]`, as far as an instance may change it. The ladder of sources is not among it: it is
/// climbed before any disk can be read, and what a seed says must not make the clock follow another
/// than the image's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockSettings {
    /// From this offset on the clock is stepped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_us: Option<StepUs>,
    /// Time between two looks at the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_ms: Option<WatchMs>,
}

/// `[status]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatusSettings {
    /// Time between two status records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<IntervalMs>,
}

/// The kernel command line's part in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// What it sets.
    pub settings: Settings,
    /// `noonmark.clock.sources=kvm,host`: the ladder, which the command line alone may change after
    /// the build, because it is read before the clock is.
    pub sources: Option<Vec<Source>>,
    /// What was wrong in it: each word, and why it changes nothing.
    pub problems: Vec<String>,
}

impl Cmdline {
    /// Reads the words `noonmark.KEY=VALUE`; all others are the kernel's. A word that can't be used
    /// is a problem told, and the others stand; of two for the same key the last one wins.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut cmdline = Self::default();
        for word in text.split_ascii_whitespace() {
            let Some(setting) = word.strip_prefix(CMDLINE_PREFIX) else {
                continue;
            };
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            if let Err(unfit) = cmdline.set(key, value) {
                cmdline.problems.push(format!(
                    "kernel command line: {CMDLINE_PREFIX}{}: {unfit}",
                    key.escape_debug()
                ));
            }
        }
        cmdline
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Unfit> {
        let settings = &mut self.settings;
        match key {
            "hostname" => settings.hostname = Some(value.parse()?),
            "clock.sources" => self.sources = Some(sources(value)?),
            "clock.step_us" => settings.clock.step_us = Some(value.parse()?),
            "clock.watch_ms" => settings.clock.watch_ms = Some(value.parse()?),
            "status.interval_ms" => settings.status.interval_ms = Some(value.parse()?),
            "ntp.servers" => settings.ntp.servers = Some(servers(value)?),
            _ => match key.strip_prefix("sysctl.") {
                Some(name) => {
                    settings.sysctl.insert(name.parse()?, value.parse()?);
                }
                None => {
                    return Err(Unfit::new(
                        "unknown key; expected hostname, clock.sources, clock.step_us, \
                         clock.watch_ms, status.interval_ms, ntp.servers or sysctl.NAME",
                    ));
                }
            },
        }
        Ok(())
    }
}

/// What a status record has for a list; `none` where there is nothing in it.
fn listed<T: ToString>(list: &[T]) -> String {
    let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        "none".into()
    } else {
        texts.join("; ")
    }
}

fn sources(list: &str) -> Result<Vec<Source>, Unfit> {
    let mut sources = Vec::new();
    for name in list.split(',') {
        let source: Source = name
            .parse()
            .map_err(|error| Unfit::new(format!("{error}")))?;
        if sources.contains(&source) {
            return Err(Unfit::new(format!("`{source}` is there twice")));
        }
        sources.push(source);
    }
    Ok(sources)
}

/// `a,b:1123`; an empty text is no server.
fn servers(list: &str) -> Result<Vec<Server>, Unfit> {
    let names = list.split(',').filter(|_| !list.is_empty());
    let servers: Result<Vec<Server>, _> = names.map(str::parse).collect();
    let servers = servers.map_err(|error| Unfit::new(error.to_string()))?;
    NtpConfig::check_servers(&servers).map_err(Unfit::new)?;
    Ok(servers)
}

impl BootConfig {
    /// Puts what a seed or the command line sets over what stood before, and notes whose word it is.
    pub fn apply(
        &mut self,
        settings: &Settings,
        origin: Origin,
        effective: &mut BTreeMap<String, Effective>,
    ) {
        if let Some(hostname) = &settings.hostname {
            self.hostname = hostname.to_string();
        }
        if let Some(step) = settings.clock.step_us {
            self.clock.step = Nanos::from_micros(step.get().into());
        }
        if let Some(watch) = settings.clock.watch_ms {
            self.clock.watch = Nanos::from_millis(watch.get().into());
        }
        if let Some(interval) = settings.status.interval_ms {
            self.status.interval = Nanos::from_millis(interval.get().into());
        }
        for (name, value) in &settings.sysctl {
            self.sysctl.insert(name.clone(), value.clone());
        }
        if let Some(network) = &settings.network {
            self.network.clone_from(network);
        }
        if let Some(servers) = &settings.ntp.servers {
            self.ntp.servers.clone_from(servers);
        }
        for (key, value) in settings.told() {
            effective.insert(key, Effective { value, origin });
        }
    }

    /// The settings that an instance may change, as they stand in the image.
    #[must_use]
    pub fn told(&self) -> BTreeMap<String, Effective> {
        let clock = &self.clock;
        let names: Vec<String> = clock.sources.iter().map(ToString::to_string).collect();
        let mut told = BTreeMap::from([
            ("hostname".into(), self.hostname.clone()),
            ("clock.sources".into(), names.join(",")),
            ("clock.step_us".into(), (clock.step.0 / 1_000).to_string()),
            (
                "clock.watch_ms".into(),
                (clock.watch.0 / 1_000_000).to_string(),
            ),
            (
                "status.interval_ms".into(),
                (self.status.interval.0 / 1_000_000).to_string(),
            ),
        ]);
        for (name, value) in &self.sysctl {
            told.insert(format!("sysctl.{name}"), value.to_string());
        }
        // What an image can't do at all, no instance can set.
        if !self.network.interface.is_empty() {
            told.insert(NETWORK.into(), listed(&self.network.interface));
        }
        if !self.ntp.servers.is_empty() {
            told.insert(NTP_SERVERS.into(), listed(&self.ntp.servers));
        }
        let image = |value| Effective {
            value,
            origin: Origin::Image,
        };
        told.into_iter()
            .map(|(key, value)| (key, image(value)))
            .collect()
    }
}

impl Settings {
    /// Takes out what this image can't do, whoever asks for it; each with its key and why.
    pub fn take_unfit(&mut self, image: &BootConfig) -> Vec<(&'static str, String)> {
        let mut unfit = Vec::new();
        if self.network.is_some() && image.network.interface.is_empty() {
            self.network = None;
            unfit.push((
                "network",
                "the image has no network, and only its guest.toml can give it one, by \
                 `[[network.interface]]`"
                    .into(),
            ));
        }
        let wanted = image.ntp.min_sources;
        let problem = match &self.ntp.servers {
            Some(_) if image.ntp.servers.is_empty() => {
                "the image has no NTP client, and only its guest.toml can give it one, by `[ntp] \
                 servers`"
                    .into()
            }
            Some(servers) if (1..wanted as usize).contains(&servers.len()) => format!(
                "{} servers, of which the image wants {wanted} to agree (`[ntp] min_sources`); \
                 its own stay",
                servers.len()
            ),
            Some(_) | None => return unfit,
        };
        self.ntp.servers = None;
        unfit.push((NTP_SERVERS, problem));
        unfit
    }

    /// Key and value of everything that is set, in `guest.toml`'s names and units.
    fn told(&self) -> Vec<(String, String)> {
        let mut told = Vec::new();
        let mut tell = |key: &str, value: Option<String>| {
            told.extend(value.map(|value| (key.to_string(), value)));
        };
        let Self {
            hostname,
            clock,
            status,
            sysctl,
            network,
            ntp,
        } = self;
        tell("hostname", hostname.as_ref().map(ToString::to_string));
        tell("clock.step_us", clock.step_us.map(|n| n.get().to_string()));
        tell(
            "clock.watch_ms",
            clock.watch_ms.map(|n| n.get().to_string()),
        );
        tell(
            "status.interval_ms",
            status.interval_ms.map(|n| n.get().to_string()),
        );
        let interfaces = network.as_ref().map(|network| &network.interface);
        tell(NETWORK, interfaces.map(|list| listed(list)));
        tell(NTP_SERVERS, ntp.servers.as_ref().map(|list| listed(list)));
        for (name, value) in sysctl {
            tell(&format!("sysctl.{name}"), Some(value.to_string()));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_sets_what_it_names_and_leaves_the_kernels_words_alone() {
        let cmdline = Cmdline::parse(
            "console=ttyS0 quiet noonmark.hostname=x noonmark.clock.watch_ms=50 \
             noonmark.clock.sources=host,rtc noonmark.sysctl.vm.swappiness=10 \
             noonmark.hostname=y\n",
        );
        assert_eq!(cmdline.problems, Vec::<String>::new());
        assert_eq!(
            cmdline.sources,
            Some(alloc::vec![Source::Host, Source::Rtc])
        );
        let settings = cmdline.settings;
        assert_eq!(settings.hostname.expect("a name").as_str(), "y");
        assert_eq!(settings.clock.watch_ms.map(WatchMs::get), Some(50));
        assert_eq!(settings.sysctl.len(), 1);
    }

    #[test]
    fn a_wrong_word_is_named_and_the_others_stand() {
        let cmdline = Cmdline::parse(
            "noonmark.clock.watch_ms=0 noonmark.colour=red noonmark.hostname noonmark.= \
             noonmark.clock.sources=kvm,kvm noonmark.clock.step_us=7",
        );
        assert_eq!(
            cmdline.settings.clock.step_us.map(StepUs::get),
            Some(7),
            "{cmdline:?}"
        );
        let problems = cmdline.problems.join("\n");
        for named in [
            "noonmark.clock.watch_ms: 0: expected 1 to 1000",
            "noonmark.colour: unknown key",
            "noonmark.hostname: ``: expected a host name",
            "noonmark.: unknown key",
            "noonmark.clock.sources: `kvm` is there twice",
        ] {
            assert!(problems.contains(named), "{problems}");
        }
    }
}
