//! `/run/noonmark`, the runtime directory: the configuration of the image's own programs, as it is
//! after everything that may change it at boot.

use std::fs;
use std::io;
use std::path::Path;

use noonmark_contract::config::BootConfig;
use noonmark_contract::config::network::{NETWORK_FILE, NTP_FILE, Network, NtpTask};
use serde_json::to_vec_pretty;
use thiserror::Error;

/// The folder. `/run` must be mounted.
pub const FOLDER: &str = "/run/noonmark";

/// A file that could not be written.
#[derive(Debug, Error)]
#[error("{path}: {source}; the program that needs it will not work")]
pub struct RuntimeFileError {
    path: &'static str,
    source: io::Error,
}

/// Writes what the programs of this configuration need; a file that can't be written is
/// reported, and the rest is written all the same.
#[must_use]
pub fn write(config: &BootConfig) -> Vec<RuntimeFileError> {
    let network = Network {
        hostname: config.hostname.clone(),
        interface: config.network.interface.clone(),
    };
    let mut outcomes = vec![
        fs::create_dir_all(FOLDER).map_err(|source| RuntimeFileError {
            path: FOLDER,
            source,
        }),
    ];
    if !config.network.interface.is_empty() {
        outcomes.push(write_json(NETWORK_FILE, to_vec_pretty(&network)));
    }
    if !config.ntp.servers.is_empty() {
        let task = NtpTask {
            built: config.built,
            config: config.ntp.clone(),
        };
        outcomes.push(write_json(NTP_FILE, to_vec_pretty(&task)));
    }
    outcomes.into_iter().filter_map(Result::err).collect()
}

fn write_json(
    path: &'static str,
    json: serde_json::Result<Vec<u8>>,
) -> Result<(), RuntimeFileError> {
    json.map_err(io::Error::other)
        .and_then(|json| fs::write(Path::new(path), json))
        .map_err(|source| RuntimeFileError { path, source })
}
