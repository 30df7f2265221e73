//! The checks of `[seed]`, `[sysctl]`, `[tmpfs]`, `[watchdog]` and `[agent]`.

use std::collections::BTreeMap;

use noonmark_contract::agent::{COMMANDS, FREEZE_LIMIT_S};
use noonmark_contract::config::system::{SeedConfig, TmpfsConfig};
use noonmark_contract::config::values::{SizeKib, SysctlName, SysctlValue, Unfit, WaitMs};
use noonmark_contract::units::Nanos;
use toml::Spanned;

use crate::text::TomlDocument;

use super::raw::{RawAgent, RawSeed, RawTmpfs, RawWatchdog};
use super::value::{Checked, number, text};
use super::{AgentSpec, WatchdogSpec};

pub(super) fn seed(raw: &RawSeed, doc: &TomlDocument<'_>) -> Checked<SeedConfig> {
    let default = SeedConfig::default();
    let wait: Option<WaitMs> = ranged(raw.wait_ms.as_ref(), "seed.wait_ms", doc)?;
    Ok(SeedConfig {
        enabled: raw.enabled.unwrap_or(default.enabled),
        wait: wait.map_or(default.wait, |ms| Nanos::from_millis(ms.get().into())),
        cdrom: raw.cdrom.unwrap_or(default.cdrom),
        programs: raw.programs.unwrap_or(default.programs),
        strict: raw.strict.unwrap_or(default.strict),
    })
}

pub(super) fn tmpfs(raw: &RawTmpfs, doc: &TomlDocument<'_>) -> Checked<TmpfsConfig> {
    let size = |key, name| ranged::<SizeKib>(key, name, doc);
    Ok(TmpfsConfig {
        run_kib: size(raw.run_kib.as_ref(), "tmpfs.run_kib")?,
        tmp_kib: size(raw.tmp_kib.as_ref(), "tmpfs.tmp_kib")?,
    })
}

/// The driver of the watchdog that hypervisors have had for longest: QEMU's and libvirt's.
const WATCHDOG_DRIVER: &str = "i6300esb";

pub(super) fn watchdog(raw: RawWatchdog, doc: &TomlDocument<'_>) -> Checked<Option<WatchdogSpec>> {
    let key = "watchdog.driver";
    let span = raw.driver.as_ref().map(Spanned::span);
    let driver = match raw.driver {
        None => WATCHDOG_DRIVER.to_owned(),
        Some(driver) => text(driver, key, doc, |name| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            let fits = (1..=64).contains(&name.len()) && name.bytes().all(good);
            fits.then_some(())
                .ok_or("expected the name of a kernel module, as i6300esb or softdog")
        })?,
    };
    let timeout_s = number(raw.timeout_s, "watchdog.timeout_s", 1..=3_600, doc)?;
    if timeout_s.is_none() && span.is_some() {
        let problem =
            "without `timeout_s` there is no watchdog; give it a time, or leave the key out";
        return Err(doc.error(span, key, problem));
    }
    Ok(timeout_s.map(|timeout_s| WatchdogSpec { timeout_s, driver }))
}

pub(super) fn agent(raw: RawAgent, doc: &TomlDocument<'_>) -> Checked<AgentSpec> {
    let (key, limit_key) = ("agent.allow", "agent.freeze_limit_s");
    let limit = number(raw.freeze_limit_s, limit_key, 1..=3_600, doc)?;
    let span = raw.allow.as_ref().map(Spanned::span);
    let mut allow: Vec<String> = Vec::new();
    match raw.allow {
        None => allow.extend(COMMANDS.map(str::to_owned)),
        Some(list) => {
            for name in list.into_inner() {
                let command = text(name, key, doc, |name| {
                    let known = COMMANDS.contains(&name);
                    known.then_some(()).ok_or(
                        "expected commands of the agent that image/docs/reference.md lists, such \
                         as guest-ping; it has none that run programs or touch files",
                    )
                })?;
                allow.push(command);
            }
        }
    }
    if let (Some(span), false) = (span, raw.enabled) {
        let problem = "without `enabled = true` there is no agent; enable it, or leave the key out";
        return Err(doc.error(Some(span), key, problem));
    }
    Ok(AgentSpec {
        enabled: raw.enabled,
        allow,
        freeze_limit_s: limit.unwrap_or(FREEZE_LIMIT_S),
    })
}

/// A kernel setting's value may be written as a text or as a number.
pub(super) fn sysctl(
    raw: BTreeMap<String, Spanned<toml::Value>>,
    doc: &TomlDocument<'_>,
) -> Checked<BTreeMap<SysctlName, SysctlValue>> {
    let mut settings = BTreeMap::new();
    for (name, value) in raw {
        let span = value.span();
        let key = format!("sysctl.{name}");
        let written = match value.into_inner() {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            _ => {
                let expected = "expected a text or a whole number, as in \"vm.swappiness\" = 10; a \
                                name with dots stands in quotes";
                return Err(doc.error(Some(span), key, expected));
            }
        };
        let unfit = |error: Unfit| doc.error(Some(span.clone()), &key, error.to_string());
        let name = name.parse().map_err(unfit)?;
        settings.insert(name, written.parse().map_err(unfit)?);
    }
    Ok(settings)
}

fn ranged<T: TryFrom<i64, Error = Unfit>>(
    value: Option<&Spanned<i64>>,
    key: &str,
    doc: &TomlDocument<'_>,
) -> Checked<Option<T>> {
    let parse = |value: &Spanned<i64>| {
        T::try_from(*value.get_ref())
            .map_err(|error| doc.error(Some(value.span()), key, error.to_string()))
    };
    value.map(parse).transpose()
}
