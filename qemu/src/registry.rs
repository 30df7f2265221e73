//! The machines that run now, as another terminal finds them.

use std::fs;
use std::path::{Path, PathBuf};

use noonmark_contract::units::Utc;
use serde::{Deserialize, Serialize};

use crate::runtime_dir::{self, DESCRIPTION};

/// The subscribers' socket in a runtime directory.
pub(crate) const STATUS_SOCKET: &str = "status.sock";

/// What a runtime directory says of its machine, in the file `vm.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Format version: 1.
    pub v: u32,
    /// The name that its owner gave it.
    pub name: String,
    /// The owner's process.
    pub pid: u32,
    /// QEMU's process.
    pub qemu_pid: u32,
    /// When it was started.
    pub started_ns: Utc,
}

/// A machine that runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningVm {
    /// What its owner says of it.
    pub description: Description,
    /// Its runtime directory.
    pub directory: PathBuf,
}

impl RunningVm {
    /// The socket on which its records can be had.
    #[must_use]
    pub fn status_socket(&self) -> PathBuf {
        self.directory.join(STATUS_SOCKET)
    }
}

/// This user's running machines, the oldest first.
#[must_use]
pub fn running() -> Vec<RunningVm> {
    let mut found: Vec<RunningVm> = runtime_dir::live().iter().filter_map(|d| read(d)).collect();
    found.sort_by_key(|vm| (vm.description.started_ns, vm.description.pid));
    found
}

/// The machine of a runtime directory; none while it starts or ends.
fn read(directory: &Path) -> Option<RunningVm> {
    let text = fs::read(directory.join(DESCRIPTION)).ok()?;
    Some(RunningVm {
        description: serde_json::from_slice(&text).ok()?,
        directory: directory.to_owned(),
    })
}
