//! Keeps two commands from working on the same cache and outputs at once.

use std::fs::{self, File, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::progress;
use crate::workspace::Workspace;

/// How long another command may keep this one waiting. A first build with its downloads takes
/// minutes on a slow line.
const WAIT_MAX: Duration = Duration::from_secs(20 * 60);

/// Exclusive use of the cache and the outputs; given back on drop, or when the process ends in
/// whatever way.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Waits until no other command holds it.
    ///
    /// # Errors
    ///
    /// The lock file can't be made, or another command holds it for longer than twenty minutes.
    pub fn acquire(workspace: &Workspace) -> Result<Self> {
        let path = workspace.state().join("lock");
        fs::create_dir_all(workspace.state())
            .with_context(|| format!("cannot create {}", workspace.state().display()))?;
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let since = Instant::now();
        let mut waiting = None;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if since.elapsed() < WAIT_MAX => {
                    waiting.get_or_insert_with(|| {
                        progress::step("waiting for another `cargo xtask` to finish its build")
                    });
                    thread::sleep(Duration::from_millis(100));
                }
                Err(TryLockError::WouldBlock) => bail!(
                    "another `cargo xtask` has been building in {} for over {} minutes; end it \
                     first",
                    workspace.state().display(),
                    WAIT_MAX.as_secs() / 60
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }
}
