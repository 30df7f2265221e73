//! Which Linux distribution this machine runs (os-release(5)).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// What the machine calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// `debian`, `ubuntu`, ...
    pub id: String,
    /// `bookworm`, `noble`, ...
    pub codename: String,
}

impl Distribution {
    /// Reads `/etc/os-release`.
    ///
    /// # Errors
    ///
    /// The machine has no `apt-get`, or doesn't say which release it is.
    pub fn of_machine() -> Result<Self> {
        if !Path::new("/usr/bin/apt-get").exists() {
            bail!(
                "this machine has no apt-get, so packages can't be fetched here; install QEMU \
                 (qemu-system-x86_64) by your distribution's means, and name a kernel with \
                 `kernel.image` and `kernel.modules` in guest.toml"
            );
        }
        let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(|value| value.trim_matches(['"', '\'']).to_owned())
        };
        Ok(Self {
            id: value("ID").unwrap_or_default(),
            codename: value("VERSION_CODENAME")
                .context("/etc/os-release has no VERSION_CODENAME: which release is this?")?,
        })
    }
}
