//! `#noonmark` user-data: the keys of `guest.toml` that an instance may set, in TOML.

use std::collections::BTreeMap;

use noonmark_contract::config::Service;
use noonmark_contract::config::network::NetworkConfig;
use noonmark_contract::config::settings::{ClockSettings, NtpSettings, Settings, StatusSettings};
use noonmark_contract::config::values::{GuestPath, Hostname, Mode, SysctlName, SysctlValue};
use noonmark_contract::seed::instance::{CONTENT_MAX, Instance, SeedFile, printable};
use serde::Deserialize;
use thiserror::Error;

use crate::content::{ContentError, Encoding};

/// The first line.
pub const HEADER: &str = "#noonmark";

/// A text that can't be honoured.
#[derive(Debug, Error)]
pub enum NoonmarkConfigError {
    /// It is no TOML, or has a key that is not known or not allowed here.
    #[error("{0}")]
    Parse(String),
    /// A file's content is not in its encoding.
    #[error("file {path}: content: {source}")]
    Content {
        /// The file.
        path: GuestPath,
        /// Why.
        source: ContentError,
    },
    /// A service can't be run.
    #[error("service {name}: {key}: {problem}")]
    Service {
        /// Its name.
        name: String,
        /// Which key is wrong.
        key: &'static str,
        /// Why.
        problem: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    hostname: Option<Hostname>,
    clock: ClockSettings,
    status: StatusSettings,
    sysctl: BTreeMap<SysctlName, Value>,
    network: Option<NetworkConfig>,
    ntp: NtpSettings,
    file: Vec<File>,
    service: Vec<Service>,
}

/// A kernel setting's value may be written as a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or a whole number")]
enum Value {
    Text(SysctlValue),
    Number(i64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: GuestPath,
    #[serde(default)]
    content: String,
    #[serde(default)]
    encoding: Encoding,
    mode: Option<Mode>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    append: bool,
}

/// Takes in a text.
///
/// # Errors
/// [`NoonmarkConfigError`].
pub fn read(text: &str, instance: &mut Instance) -> Result<(), NoonmarkConfigError> {
    let document: Document =
        toml::from_str(text).map_err(|error| NoonmarkConfigError::Parse(located(text, &error)))?;
    let settings = &mut instance.settings;
    let Settings {
        hostname,
        clock,
        status,
        sysctl,
        network,
        ntp,
    } = settings;
    *hostname = document.hostname.or(hostname.take());
    (*clock, *status) = (document.clock, document.status);
    *network = document.network.or(network.take());
    *ntp = document.ntp;
    for (name, value) in document.sysctl {
        let value = match value {
            Value::Text(value) => value,
            Value::Number(number) => number
                .to_string()
                .parse()
                .map_err(|error| NoonmarkConfigError::Parse(format!("sysctl.{name}: {error}")))?,
        };
        sysctl.insert(name, value);
    }
    for file in document.file {
        instance.files.push(file.check()?);
    }
    for service in document.service {
        service
            .check()
            .map_err(|error| NoonmarkConfigError::Service {
                name: printable(&service.name, 64),
                key: error.key,
                problem: error.problem,
            })?;
        instance.services.push(service);
    }
    Ok(())
}

impl File {
    fn check(self) -> Result<SeedFile, NoonmarkConfigError> {
        let content = self
            .encoding
            .decode(self.content.into_bytes(), CONTENT_MAX)
            .map_err(|source| NoonmarkConfigError::Content {
                path: self.path.clone(),
                source,
            })?;
        Ok(SeedFile {
            path: self.path,
            mode: match self.mode {
                Some(mode) => mode,
                None => Mode::try_from(0o644)
                    .map_err(|error| NoonmarkConfigError::Parse(format!("file.mode: {error}")))?,
            },
            uid: self.uid,
            gid: self.gid,
            append: self.append,
            length: content.len(),
            content,
        })
    }
}

/// What is wrong, with its line.
fn located(text: &str, error: &toml::de::Error) -> String {
    let message = printable(error.message(), 300);
    match error.span() {
        Some(span) => {
            let before = text.as_bytes().get(..span.start).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_keys_of_an_instance_are_taken() {
        let mut instance = Instance::default();
        read(
            "#noonmark\nhostname = \"sundial\"\n[clock]\nwatch_ms = 50\n[status]\ninterval_ms = \
             250\n[sysctl]\n\"vm.swappiness\" = 10\n[[file]]\npath = \"/etc/motd\"\ncontent = \
             \"aGk=\"\nencoding = \"b64\"\nmode = 0o600\n[[service]]\nname = \"web\"\nexec = \
             [\"/bin/web\"]\n",
            &mut instance,
        )
        .unwrap();
        assert_eq!(instance.settings.hostname.unwrap().as_str(), "sundial");
        assert_eq!(instance.settings.clock.watch_ms.unwrap().get(), 50);
        assert_eq!(instance.settings.status.interval_ms.unwrap().get(), 250);
        assert_eq!(instance.settings.sysctl.len(), 1);
        assert_eq!(instance.files[0].content, b"hi");
        assert_eq!(instance.files[0].mode.get(), 0o600);
        assert_eq!(instance.services[0].name, "web");
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_key() {
        for (text, named) in [
            (
                "\n[clock]\nsources = [\"ntp\"]\n",
                "line 3: unknown field `sources`",
            ),
            ("x = 1\n", "line 1: unknown field `x`"),
            ("[clock]\nwatch_ms = 0\n", "line 2: 0: expected 1 to 1000"),
            (
                "hostname = \"a b\"\n",
                "line 1: `a b`: expected a host name",
            ),
            ("[[file]]\npath = \"/a/../b\"\n", "line 2: `/a/../b`"),
            (
                "[[file]]\npath = \"/a\"\nencoding = \"gzip\"\ncontent = \"x\"\n",
                "no gzip",
            ),
            (
                "[[service]]\nname = \"a b\"\nexec = [\"/x\"]\n",
                "service a b: name",
            ),
            ("a = \n", "line 1"),
        ] {
            let error = read(text, &mut Instance::default());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader(text in "[\\[\\]=\"'{}.,#a-z0-9_\n -]{0,120}") {
            let _ = read(&text, &mut Instance::default());
        }
    }
}
