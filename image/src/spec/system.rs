//! The checks of `[seed]`, `[sysctl]` and `[tmpfs]`.

use std::collections::BTreeMap;

use noonmark_contract::config::system::{SeedConfig, TmpfsConfig};
use noonmark_contract::config::values::{SizeKib, SysctlName, SysctlValue, Unfit, WaitMs};
use noonmark_contract::units::Nanos;
use toml::Spanned;

use crate::text::TomlDocument;

use super::raw::{RawSeed, RawTmpfs};
use super::value::Checked;

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
