//! The limits that a run is held to: a TOML file with a table for all faults, for a family, or for
//! one fault. Of several tables that fit, the more specific one counts, key by key.
//!
//! ```toml
//! [default]
//! max_recovery = "50ms"
//! [family.step]
//! p50 = "700us"
//! p99 = "2ms"
//! [fault."date:2023-03-01T12:30"]
//! error = "2us"
//! unrecovered = 0
//! ```

use std::collections::BTreeMap;

use jiff::SignedDuration;
use noonmark_contract::units::Nanos;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::fault::{Family, Fault};

/// The keys that a table may have.
const KEYS: [&str; 6] = [
    "p50",
    "p99",
    "max_recovery",
    "error",
    "residual",
    "unrecovered",
];

/// A name that differs more than this from a known one is no slip of the finger.
const SIMILAR: f64 = 0.7;

/// Limits by fault, by family and for all; empty where none were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// For every fault.
    pub default: Limit,
    /// For the faults of a family.
    pub family: BTreeMap<Family, Limit>,
    /// For one fault, by its name.
    pub fault: BTreeMap<String, Limit>,
}

/// One table; what is none is not limited by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Of the median time to recover.
    pub p50_ns: Option<Nanos>,
    /// Of the 99th percentile.
    pub p99_ns: Option<Nanos>,
    /// Of each time to recover.
    pub max_recovery_ns: Option<Nanos>,
    /// Of the error against the host's clock, either way, before each fault and after each recovery,
    /// with its bound added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ns: Option<Nanos>,
    /// Of the distance from the line through the clock's own offset before the fault, either way.
    pub residual_ns: Option<Nanos>,
    /// How many samples may stay wrong.
    pub unrecovered: Option<u32>,
}

/// The limits that count for one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of the median time to recover.
    pub p50: Option<Nanos>,
    /// Of the 99th percentile.
    pub p99: Option<Nanos>,
    /// Of each time to recover.
    pub max_recovery: Nanos,
    /// Of the error against the host's clock, where another than the samples' own is asked for.
    pub error: Option<Nanos>,
    /// Of the distance from the line before the fault.
    pub residual: Option<Nanos>,
    /// How many samples may stay wrong.
    pub unrecovered: u32,
}

/// Why a file of limits is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// It is no TOML.
    #[error("{0}")]
    NoToml(String),
    /// A table or key that is not known.
    #[error("unknown key `{key}`{}; expected {expected}", hint(.similar.as_deref()))]
    UnknownKey {
        /// The key with the tables that it is in.
        key: String,
        /// What may have been meant.
        similar: Option<String>,
        /// What may stand there.
        expected: String,
    },
    /// A fault that does not exist.
    #[error("`fault.\"{name}\"`: {why}")]
    UnknownFault {
        /// Its name.
        name: String,
        /// What is wrong with it, with what would be one.
        why: String,
    },
    /// A family that does not exist.
    #[error("`family.{name}`: there is no such family of faults{}; there are {known}", hint(.similar.as_deref()))]
    UnknownFamily {
        /// Its name.
        name: String,
        /// What may have been meant.
        similar: Option<String>,
        /// All families.
        known: String,
    },
    /// A value of another type or out of range.
    #[error("`{key}`: expected {expected}, found {found}")]
    BadValue {
        /// The key with the tables that it is in.
        key: String,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
}

fn hint(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

impl Limits {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// It is no TOML, or names what does not exist.
    pub fn parse(text: &str) -> Result<Self, LimitsError> {
        let file: Table = text
            .parse()
            .map_err(|error: toml::de::Error| LimitsError::NoToml(error.to_string()))?;
        let mut limits = Self::default();
        for (name, value) in &file {
            match name.as_str() {
                "default" => limits.default = limit(name, table(name, value)?)?,
                "family" => {
                    for (name, value) in table(name, value)? {
                        let key = format!("family.{name}");
                        let limit = limit(&key, table(&key, value)?)?;
                        limits.family.insert(family(name)?, limit);
                    }
                }
                "fault" => {
                    for (name, value) in table(name, value)? {
                        let key = format!("fault.\"{name}\"");
                        let limit = limit(&key, table(&key, value)?)?;
                        limits.fault.insert(fault(name)?, limit);
                    }
                }
                other => return Err(unknown(other, other, &["default", "family", "fault"])),
            }
        }
        Ok(limits)
    }

    /// The limits that count for a fault, where each time is limited to what `max_recovery`
    /// means for its family unless a table says otherwise.
    #[must_use]
    pub fn bounds(&self, fault: &str, family: Family, max_recovery: Nanos) -> Bounds {
        let span = |key: fn(&Limit) -> Option<Nanos>| self.first(fault, family, key);
        let unrecovered = self.first(fault, family, |limit| limit.unrecovered);
        Bounds {
            p50: span(|limit| limit.p50_ns),
            p99: span(|limit| limit.p99_ns),
            max_recovery: span(|limit| limit.max_recovery_ns)
                .unwrap_or_else(|| family.max_recovery(max_recovery)),
            error: span(|limit| limit.error_ns),
            residual: span(|limit| limit.residual_ns),
            unrecovered: unrecovered.unwrap_or(0),
        }
    }

    /// The strictest limit of the error in any table.
    #[must_use]
    pub fn strictest_error(&self) -> Option<Nanos> {
        let special = self.family.values().chain(self.fault.values());
        let all = special.chain([&self.default]);
        all.filter_map(|limit| limit.error_ns).min()
    }

    /// The most specific of the tables that say it.
    fn first<T>(
        &self,
        fault: &str,
        family: Family,
        key: impl Fn(&Limit) -> Option<T>,
    ) -> Option<T> {
        let tables = [
            self.fault.get(fault),
            self.family.get(&family),
            Some(&self.default),
        ];
        tables.into_iter().flatten().find_map(key)
    }

    /// The faults and families with a table of their own that none of these faults needs: a file
    /// of limits may serve several runs, but its reader should know.
    #[must_use]
    pub fn unused(&self, faults: &[Fault]) -> Vec<String> {
        let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let of_family = |family: &Family| faults.iter().any(|fault| fault.family() == *family);
        let families = self.family.keys().filter(|family| !of_family(family));
        let single = self.fault.keys().filter(|name| !names.contains(name));
        families
            .map(Family::to_string)
            .chain(single.cloned())
            .collect()
    }
}

fn table<'a>(key: &str, value: &'a Value) -> Result<&'a Table, LimitsError> {
    value.as_table().ok_or_else(|| LimitsError::BadValue {
        key: key.to_owned(),
        expected: "a table",
        found: value.to_string(),
    })
}

fn limit(of: &str, table: &Table) -> Result<Limit, LimitsError> {
    let mut limit = Limit::default();
    for (name, value) in table {
        let key = format!("{of}.{name}");
        match name.as_str() {
            "p50" => limit.p50_ns = Some(span(key, value)?),
            "p99" => limit.p99_ns = Some(span(key, value)?),
            "max_recovery" => limit.max_recovery_ns = Some(span(key, value)?),
            "error" => limit.error_ns = Some(span(key, value)?),
            "residual" => limit.residual_ns = Some(span(key, value)?),
            "unrecovered" => limit.unrecovered = Some(number(key, value)?),
            _ => return Err(unknown(&key, name, &KEYS)),
        }
    }
    Ok(limit)
}

fn span(key: String, value: &Value) -> Result<Nanos, LimitsError> {
    value
        .as_str()
        .and_then(|text| text.parse::<SignedDuration>().ok())
        .and_then(|span| i64::try_from(span.as_nanos()).ok())
        .filter(|ns| *ns > 0)
        .map(Nanos)
        .ok_or_else(|| LimitsError::BadValue {
            key,
            expected: "a span of time such as \"700us\" or \"1.5s\"",
            found: value.to_string(),
        })
}

fn number(key: String, value: &Value) -> Result<u32, LimitsError> {
    value
        .as_integer()
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| LimitsError::BadValue {
            key,
            expected: "a number of samples from 0 on",
            found: value.to_string(),
        })
}

/// The fault's name as reports have it.
fn fault(name: &str) -> Result<String, LimitsError> {
    let parsed: Fault = name.parse().map_err(|error| LimitsError::UnknownFault {
        name: name.to_owned(),
        why: format!("{error}"),
    })?;
    Ok(parsed.to_string())
}

fn family(name: &str) -> Result<Family, LimitsError> {
    let known = || Family::ALL.iter().map(Family::to_string);
    Family::ALL
        .into_iter()
        .find(|family| family.to_string() == name)
        .ok_or_else(|| LimitsError::UnknownFamily {
            name: name.to_owned(),
            similar: closest(name, known()),
            known: known().collect::<Vec<_>>().join(", "),
        })
}

fn unknown(key: &str, name: &str, expected: &[&str]) -> LimitsError {
    LimitsError::UnknownKey {
        key: key.to_owned(),
        similar: closest(name, expected.iter().map(ToString::to_string)),
        expected: expected.join(", "),
    }
}

/// The known name that is most like this one, if any is.
fn closest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|known| (strsim::jaro_winkler(name, &known), known))
        .filter(|(likeness, _)| *likeness >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Nanos = Nanos::from_millis(50);

    #[test]
    fn the_more_specific_table_counts_key_by_key() {
        let limits = Limits::parse(
            "[default]\np99 = \"5ms\"\nmax_recovery = \"20ms\"\n\
             [family.step]\np99 = \"2ms\"\np50 = \"700us\"\n\
             [fault.\"step:-3600s\"]\np50 = \"1ms\"\nunrecovered = 2\n\
             error = \"2us\"\n",
        )
        .unwrap();
        let own = limits.bounds("step:-1h", Family::Step, EVERYTHING);
        assert_eq!(
            own,
            Bounds {
                p50: Some(Nanos::from_millis(1)),
                p99: Some(Nanos::from_millis(2)),
                max_recovery: Nanos::from_millis(20),
                error: Some(Nanos::from_micros(2)),
                residual: None,
                unrecovered: 2,
            }
        );
        assert_eq!(limits.strictest_error(), Some(Nanos::from_micros(2)));
        let other = limits.bounds("pause:5s", Family::Pause, EVERYTHING);
        assert_eq!(other.p99, Some(Nanos::from_millis(5)));
        assert_eq!((other.p50, other.unrecovered), (None, 0));
        let none = Limits::default().bounds("step:-1h", Family::Step, EVERYTHING);
        assert_eq!(none.max_recovery, EVERYTHING);
    }

    #[test]
    fn a_slip_of_the_finger_is_told_with_what_was_meant() {
        let told = |text: &str| Limits::parse(text).unwrap_err().to_string();
        assert_eq!(
            told("[family.step]\np95 = \"1ms\"\n"),
            "unknown key `family.step.p95` (did you mean `p99`?); expected p50, p99, max_recovery, \
             error, residual, unrecovered"
        );
        assert!(told("[familly.step]\n").contains("did you mean `family`?"));
        let family = told("[family.pauze]\n");
        assert!(
            family.contains("did you mean `pause`?") && family.contains("storm"),
            "{family}"
        );
        assert!(told("[fault.\"wobble:1\"]\n").contains("unknown fault `wobble:1`"));
        assert!(told("[default]\np50 = 3\n").contains("a span of time"));
        assert!(told("[default]\np50 = \"-3ms\"\n").contains("a span of time"));
        assert!(told("[default]\nunrecovered = -1\n").contains("a number of samples"));
        assert!(told("default = 1\n").contains("a table"));
        assert!(
            told("p50 = ").contains('1'),
            "no line in {}",
            told("p50 = ")
        );
    }

    #[test]
    fn tables_for_faults_that_are_not_done_are_known() {
        let limits = Limits::parse("[family.storm]\np50=\"1ms\"\n[fault.\"step:+1h\"]\n").unwrap();
        let done = ["step:-1h".parse().unwrap()];
        assert_eq!(limits.unused(&done), ["storm", "step:+1h"]);
        let done = ["step:+1h".parse().unwrap()];
        assert_eq!(limits.unused(&done), ["storm"]);
    }
}
