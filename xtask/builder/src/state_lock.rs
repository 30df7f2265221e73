//! Keeps two commands from working on the same cache and outputs at once.

use std::fs::{self, File, TryLockError};
use std::path::Path;
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
    _files: Vec<File>,
}

impl StateLock {
    /// Waits until no other command holds it.
    ///
    /// # Errors
    ///
    /// The lock file can't be made, or another command holds it for longer than twenty minutes.
    pub fn acquire(workspace: &Workspace) -> Result<Self> {
        let (state, cache) = (workspace.state(), workspace.cache());
        let mut files = vec![lock(state)?];
        // Projects share it; always in this order, so that no two wait for each other.
        if !cache.starts_with(state) {
            files.push(lock(&cache)?);
        }
        Ok(Self { _files: files })
    }
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let since = Instant::now();
    let mut waiting = None;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if since.elapsed() < WAIT_MAX => {
                waiting.get_or_insert_with(|| {
                    progress::step("waiting for another command to finish its build")
                });
                thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => bail!(
                "another command has been building in {} for over {} minutes; end it \
                     first",
                folder.display(),
                WAIT_MAX.as_secs() / 60
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}
