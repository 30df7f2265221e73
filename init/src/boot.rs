//! What happens before the loop: file systems, configuration, modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use noonmark_contract::config::network::{NetworkConfig, NtpConfig};
use noonmark_contract::config::system::{SeedConfig, TmpfsConfig};
use noonmark_contract::config::{
    BootConfig, ClockConfig, FailureAction, PATH as CONFIG, StatusConfig,
};
use noonmark_contract::units::{Nanos, Raw, Utc};
use noonmark_linux::{affinity, clocks, kmsg, log, sys};
use rustix::mm::MlockAllFlags;
use rustix::system::RebootCommand;
use thiserror::Error;

use crate::modules::ModuleError;
use crate::{modules, mounts, power};

/// Where the initrd keeps kernel modules; looked through where the configuration can't be read.
const MODULES: &str = "/lib/modules";

/// Above ordinary programs and the kernel's own SCHED_FIFO threads (50), below its migration and
/// watchdog threads (99): a correction waits for neither workload nor threaded interrupts.
const PRIORITY: i32 = 80;

/// The configuration's longest file.
const CONFIG_MAX: u64 = 1024 * 1024;

/// The configuration's version.
const CONFIG_VERSION: u32 = 1;

/// The instant of PID 1's first instruction.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Since the kernel's timekeeping started.
    pub monotonic: Nanos,
    /// To count from.
    pub raw: Raw,
    /// What the process had used by then: the kernel boots as process 1, and that is not ours.
    pub cpu: Nanos,
}

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

impl Started {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            monotonic: clocks::monotonic(),
            raw: clocks::raw(),
            cpu: clocks::cpu_time(),
        }
    }
}

/// Makes the machine usable: file systems, log, loopback, scheduling, memory. What fails is logged and told
/// in `problems`; none of it keeps the clock from being corrected.
#[must_use]
pub fn set_up() -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    problems.extend(mounts::dev().err().map(|error| error.to_string()));
    problems.extend(
        kmsg::open()
            .err()
            .map(|error| format!("/dev/kmsg: {error}")),
    );
    power::install_panic_hook();
    problems.extend(mounts::rest().iter().map(ToString::to_string));
    if let Err(errno) = sys::loopback_up() {
        problems.push(format!(
            "bringing up lo: {errno}; programs can't reach each other by 127.0.0.1"
        ));
    }
    if let Err(errno) = sys::schedule_fifo(PRIORITY) {
        problems.push(format!("SCHED_FIFO {PRIORITY}: {errno}"));
    }
    if let Err(errno) = affinity::keep_to_first() {
        problems.push(format!("keeping to one processor: {errno}"));
    }
    if let Err(errno) = rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE) {
        problems.push(format!("locking memory: {errno}"));
    }
    if let Err(errno) = rustix::system::reboot(RebootCommand::CadOff) {
        problems.push(format!("taking Ctrl-Alt-Del: {errno}"));
    }
    problems
}

/// Reads the image's configuration.
///
/// # Errors
/// [`ConfigError`].
pub fn read_config() -> Result<BootConfig, ConfigError> {
    let length = fs::metadata(CONFIG)?.len();
    if length > CONFIG_MAX {
        return Err(ConfigError::TooLong(length));
    }
    parse_config(&fs::read(CONFIG)?)
}

/// What PID 1 runs on where the image's configuration can't be used: the default ladder, no
/// services, and a way to be looked at.
#[must_use]
pub fn fallback_config() -> BootConfig {
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
        mounts: Vec::new(),
    }
}

/// Loads whatever modules there are, where no list tells which and in what order.
#[must_use]
pub fn load_modules_without_list() -> Vec<ModuleError> {
    modules::load_all_in(Path::new(MODULES))
}

/// Gives the machine its name.
pub fn set_hostname(config: &BootConfig) {
    if let Err(errno) = rustix::system::sethostname(config.hostname.as_bytes()) {
        log!(Warning, "host name `{}`: {errno}", config.hostname);
    }
}

fn parse_config(bytes: &[u8]) -> Result<BootConfig, ConfigError> {
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
        let bytes = serde_json::to_vec(&fallback_config()).unwrap();
        assert_eq!(parse_config(&bytes).unwrap(), fallback_config());
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut config = fallback_config();
        config.v = 2;
        let error = parse_config(&serde_json::to_vec(&config).unwrap()).unwrap_err();
        assert!(error.to_string().contains("/noonmark.json: version 2"));
    }

    #[test]
    fn a_broken_file_is_told_with_its_line() {
        let error = parse_config(b"{\n\"v\": 1,\n\"oops\"")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/noonmark.json") && error.contains("line 3"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse_config(&bytes).is_err());
        }
    }
}
