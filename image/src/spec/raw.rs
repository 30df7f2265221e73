//! `guest.toml` as it is written.
//!
//! These types are the only list of the keys; messages and tests take theirs from here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use noonmark_contract::config::network::{Interface, Server};
use noonmark_contract::config::system::FileSystem;
use noonmark_contract::config::{FailureAction, Service};
use serde::Deserialize;
use toml::Spanned;

use crate::compress::Compression;

/// A key that may be left out; its place is kept for messages.
pub(super) type Key<T> = Option<Spanned<T>>;

/// What a file extends is followed before the types are looked at (`description`); here the key is known.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSpec {
    #[serde(rename = "extends")]
    _extends: Option<PathBuf>,
    pub image: RawImage,
    pub kernel: RawKernel,
    pub modules: RawModules,
    pub clock: RawClock,
    pub status: RawStatus,
    pub initrd: RawInitrd,
    pub budget: RawBudget,
    pub vm: RawVm,
    pub network: RawNetwork,
    pub ntp: RawNtp,
    pub file: Vec<RawFile>,
    pub package: Vec<RawPackage>,
    pub program: Vec<RawProgram>,
    pub tree: Vec<RawTree>,
    pub symlink: Vec<RawSymlink>,
    pub dir: Vec<RawDir>,
    pub service: Vec<Spanned<Service>>,
    pub seed: RawSeed,
    pub sysctl: BTreeMap<String, Spanned<toml::Value>>,
    pub tmpfs: RawTmpfs,
    pub watchdog: RawWatchdog,
    pub agent: RawAgent,
    pub mount: Vec<RawMount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawImage {
    pub name: Key<String>,
    pub hostname: Key<String>,
    pub label: Key<String>,
    pub source_date: Key<toml::Value>,
    pub on_failure: Option<FailureAction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawKernel {
    pub package: Key<String>,
    pub suite: Key<String>,
    pub image: Key<PathBuf>,
    pub modules: Key<PathBuf>,
    pub cmdline: Key<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawModules {
    pub load: Vec<Spanned<String>>,
    pub optional: Vec<Spanned<String>>,
    pub lock: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClock {
    pub sources: Key<Vec<Spanned<String>>>,
    pub step_us: Key<i64>,
    pub makestep_ms: Key<i64>,
    pub max_slew_ppm: Key<i64>,
    pub panic_s: Key<i64>,
    pub rtc_grace_ms: Key<i64>,
    pub watch_ms: Key<i64>,
    pub rtcsync: Option<bool>,
    pub phc_tai_offset_s: Key<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStatus {
    pub interval_ms: Key<i64>,
    pub file: bool,
    pub clockbound: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawInitrd {
    pub compression: Option<Compression>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBudget {
    pub disk_mib: Key<i64>,
    pub initrd_kib: Key<i64>,
    pub init_kib: Key<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawVm {
    pub vcpus: Key<i64>,
    pub memory_mib: Key<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNetwork {
    pub interface: Vec<Spanned<Interface>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNtp {
    pub servers: Key<Vec<Spanned<Server>>>,
    pub min_sources: Key<i64>,
    pub max_distance_ms: Key<i64>,
    pub min_poll: Key<i64>,
    pub max_poll: Key<i64>,
    pub trusted_certs: Key<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub path: Spanned<String>,
    pub source: Spanned<PathBuf>,
    pub mode: Key<i64>,
    pub uid: Key<i64>,
    pub gid: Key<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPackage {
    pub name: Spanned<String>,
    pub suite: Key<String>,
    #[serde(default)]
    pub include: Vec<Spanned<String>>,
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProgram {
    pub path: Spanned<String>,
    pub source: Key<PathBuf>,
    pub root: Key<PathBuf>,
    pub package: Key<String>,
    pub suite: Key<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTree {
    pub path: Spanned<String>,
    pub source: Spanned<PathBuf>,
    #[serde(default)]
    pub include: Vec<Spanned<String>>,
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
    pub uid: Key<i64>,
    pub gid: Key<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSymlink {
    pub path: Spanned<String>,
    pub target: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDir {
    pub path: Spanned<String>,
    pub mode: Key<i64>,
    pub uid: Key<i64>,
    pub gid: Key<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSeed {
    pub enabled: Option<bool>,
    pub wait_ms: Key<i64>,
    pub cdrom: Option<bool>,
    pub programs: Option<bool>,
    pub strict: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTmpfs {
    pub run_kib: Key<i64>,
    pub tmp_kib: Key<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWatchdog {
    pub timeout_s: Key<i64>,
    pub driver: Key<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAgent {
    pub enabled: bool,
    pub allow: Key<Vec<Spanned<String>>>,
    pub freeze_limit_s: Key<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMount {
    pub label: Spanned<String>,
    pub path: Spanned<String>,
    #[serde(rename = "type")]
    pub kind: FileSystem,
    #[serde(default)]
    pub read_only: bool,
    #[serde(default)]
    pub exec: bool,
    #[serde(default)]
    pub required: bool,
    #[serde(default)]
    pub wait_ms: Key<i64>,
}
