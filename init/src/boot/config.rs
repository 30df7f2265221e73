//! The image's configuration, and what stands in for one that can't be used.

use std::collections::BTreeMap;
use std::fs;

use noonmark_contract::agent::FREEZE_LIMIT_S;
use noonmark_contract::config::network::{NetworkConfig, NtpConfig};
use noonmark_contract::config::system::{SeedConfig, TmpfsConfig};
use noonmark_contract::config::{
    BootConfig, ClockConfig, FailureAction, PATH as CONFIG, StatusConfig,
};
use noonmark_contract::units::Utc;
use thiserror::Error;

/// The configuration's longest file.
const CONFIG_MAX: u64 = 1024 * 1024;

/// The configuration's version.
const CONFIG_VERSION: u32 = 1;

/// Why the image's configuration is not used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("{CONFIG}: {0}")]
    Read(#[from] std::io::Error),
    /// It is too long to be one.
    #[error("{CONFIG}: {0} bytes long; at most {CONFIG_MAX} are read")]
    TooLong(u64),
    /// It is no valid configuration.
    #[error("{CONFIG}: {0}")]
    Parse(#[from] serde_json::Error),
    /// It is of a version that this program doesn't know.
    #[error("{CONFIG}: version {0}; this PID 1 understands {CONFIG_VERSION}")]
    Version(u32),
}

/// Reads the image's configuration.
///
/// # Errors
/// [`ConfigError`].
pub fn read() -> Result<BootConfig, ConfigError> {
    let length = fs::metadata(CONFIG)?.len();
    if length > CONFIG_MAX {
        return Err(ConfigError::TooLong(length));
    }
    parse(&fs::read(CONFIG)?)
}

/// What PID 1 runs on where the image's configuration can't be used: the default ladder, no
/// services, and the status port.
#[must_use]
pub fn fallback() -> BootConfig {
    BootConfig {
        v: CONFIG_VERSION,
        hostname: "noonmark".into(),
        built: Utc(0),
        modules: Vec::new(),
        clock: ClockConfig::default(),
        status: StatusConfig::default(),
        on_failure: FailureAction::default(),
        network: NetworkConfig::default(),
        ntp: NtpConfig::default(),
        lock_modules: true,
        services: Vec::new(),
        seed: SeedConfig::default(),
        sysctl: BTreeMap::new(),
        tmpfs: TmpfsConfig::default(),
        watchdog_timeout_s: None,
        mounts: Vec::new(),
        freeze_limit_s: FREEZE_LIMIT_S,
    }
}

fn parse(bytes: &[u8]) -> Result<BootConfig, ConfigError> {
    let config: BootConfig = serde_json::from_slice(bytes)?;
    if config.v != CONFIG_VERSION {
        return Err(ConfigError::Version(config.v));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fallback_survives_its_own_format() {
        let bytes = serde_json::to_vec(&fallback()).unwrap();
        assert_eq!(parse(&bytes).unwrap(), fallback());
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut config = fallback();
        config.v = 2;
        let error = parse(&serde_json::to_vec(&config).unwrap()).unwrap_err();
        assert!(error.to_string().contains("/noonmark.json: version 2"));
    }

    #[test]
    fn a_broken_file_is_told_with_its_line() {
        let error = parse(b"{\n\"v\": 1,\n\"oops\"").unwrap_err().to_string();
        assert!(
            error.contains("/noonmark.json") && error.contains("line 3"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
