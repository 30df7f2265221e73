//! The runtime directory of one machine: sockets and small files that live as long as their machine.
//!
//! It is named `noonmark-PID-N` after its owner, is readable by its user alone, and stays locked
//! (`flock`) while its owner lives. A lock ends with its process, however that ends, so an unlocked
//! directory belongs to nobody and the next start removes it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::file_error::FileError;
use crate::signals::{self, CleanupGuard};

/// What every runtime directory's name starts with.
const PREFIX: &str = "noonmark-";

/// A directory that is being removed has this at the end of its name.
const GONE: &str = ".gone";

/// The file that describes the machine, there once the machine runs.
pub(crate) const DESCRIPTION: &str = "vm.json";

/// A Unix socket's path must fit `sun_path`, which is 108 bytes with its NUL (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// The longest name that a socket in a runtime directory has.
const SOCKET_NAME_MAX: usize = 16;

/// Directories of one process that can exist at once; far more than any use.
const DIRECTORIES_MAX: u32 = 10_000;

/// How long a clean-up elsewhere may hold a new directory's lock.
const LOCK_DEADLINE: Duration = Duration::from_secs(2);

/// A machine's runtime directory; removed when dropped.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    _lock: File,
    removal: CleanupGuard,
}

/// Why there is no runtime directory.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeDirError {
    /// No candidate is both there and short enough for a socket's path.
    #[error(
        "no directory for sockets: {} is too long for a socket's path ({SOCKET_PATH_MAX} bytes), \
         or not there; set XDG_RUNTIME_DIR or TMPDIR to a short writable directory",
        listed(.tried)
    )]
    NoBase {
        /// What was tried.
        tried: Vec<PathBuf>,
    },
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

fn listed(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    names.join(", ")
}

impl RuntimeDir {
    /// Removes what dead owners left behind, then makes a new directory.
    ///
    /// # Errors
    /// Where no directory can be made or locked, or every candidate's path is too long.
    pub fn create() -> Result<Self, RuntimeDirError> {
        let bases = bases();
        for base in &bases {
            remove_stale(base);
        }
        let base = bases
            .iter()
            .find(|base| fits(base))
            .ok_or(RuntimeDirError::NoBase {
                tried: bases.clone(),
            })?;
        let ((path, lock), removal) = signals::register_with(|| {
            let path = make_in(base)?;
            let doomed = path.clone();
            let cleanup = move || remove(&doomed);
            match lock_own(&path) {
                Ok(lock) => Ok(((path, lock), cleanup)),
                Err(source) => {
                    remove(&path);
                    Err(FileError::of("lock", &path)(source))
                }
            }
        })?;
        Ok(Self {
            path,
            _lock: lock,
            removal,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file as a whole: a reader sees all of it or none.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let (partial, path) = (self.join(&format!("{name}.new")), self.join(name));
        fs::write(&partial, bytes).map_err(FileError::of("write", &partial))?;
        fs::rename(&partial, &path).map_err(FileError::of("write", &path))
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        self.removal.run();
    }
}

/// The runtime directories of machines whose owners live.
#[must_use]
pub fn live() -> Vec<PathBuf> {
    let mut live = Vec::new();
    for base in bases() {
        for found in directories_in(&base) {
            if !found.gone && matches!(try_lock(&found.path), Ok(None)) {
                live.push(found.path);
            }
        }
    }
    live
}

/// Where runtime directories may be: the user's own runtime directory first.
fn bases() -> Vec<PathBuf> {
    let mut bases = Vec::new();
    let candidates = [
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        Some(std::env::temp_dir()),
        Some(PathBuf::from("/tmp")),
    ];
    for base in candidates.into_iter().flatten() {
        if base.is_absolute() && base.is_dir() && !bases.contains(&base) {
            bases.push(base);
        }
    }
    bases
}

/// Whether a socket in a runtime directory below `base` has a path that is short enough.
fn fits(base: &Path) -> bool {
    let longest = format!("/{PREFIX}{}-{DIRECTORIES_MAX}/", u32::MAX).len() + SOCKET_NAME_MAX;
    base.as_os_str().len() + longest <= SOCKET_PATH_MAX
}

fn make_in(base: &Path) -> Result<PathBuf, FileError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{PREFIX}{pid}-{number}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            // Left by a process of the same number that another user or namespace owns.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && number < DIRECTORIES_MAX => {}
            Err(error) => return Err(FileError::of("make directory", &path)(error)),
        }
    }
}

fn lock_own(path: &Path) -> io::Result<File> {
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        if let Some(lock) = try_lock(path)? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Locks a directory; none where its owner holds it.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let directory = File::open(path)?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(directory)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

struct Found {
    path: PathBuf,
    pid: u32,
    gone: bool,
}

/// This user's runtime directories below `base`, dead or alive.
fn directories_in(base: &Path) -> Vec<Found> {
    let own = rustix::process::getuid().as_raw();
    let Ok(entries) = fs::read_dir(base) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let (pid, gone) = parse_name(entry.file_name().to_str()?)?;
            let metadata = entry.metadata().ok()?;
            (metadata.is_dir() && metadata.uid() == own).then(|| Found {
                path: entry.path(),
                pid,
                gone,
            })
        })
        .collect()
}

fn parse_name(name: &str) -> Option<(u32, bool)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (rest, gone) = match rest.strip_suffix(GONE) {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (pid, number) = rest.split_once('-')?;
    number.parse::<u32>().ok()?;
    Some((pid.parse().ok()?, gone))
}

/// Removes the directories of owners that died without a chance to do it.
fn remove_stale(base: &Path) {
    for found in directories_in(base) {
        let Ok(Some(_lock)) = try_lock(&found.path) else {
            continue;
        };
        // An owner that has made its directory and not locked it yet is alive and has no
        // description in it.
        let owner_lives = Path::new(&format!("/proc/{}", found.pid)).exists();
        if !owner_lives || found.path.join(DESCRIPTION).exists() {
            remove(&found.path);
        }
    }
}

/// Removes a directory under another name, so that nobody can add a file to it on the way. What
/// cannot be removed now is left to the next start.
fn remove(path: &Path) {
    let mut doomed = path.to_owned();
    if !path.to_string_lossy().ends_with(GONE) {
        doomed.as_mut_os_string().push(GONE);
        if fs::rename(path, &doomed).is_err() {
            return;
        }
    }
    let _ = fs::remove_dir_all(&doomed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_private_lives_with_its_owner_and_goes_with_it() {
        let run = RuntimeDir::create().unwrap();
        let path = run.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(live().contains(&path));
        run.write("a.json", b"{}").unwrap();
        assert_eq!(fs::read(path.join("a.json")).unwrap(), b"{}");
        drop(run);
        assert!(!path.exists());
        assert!(!live().contains(&path));
    }

    #[test]
    fn a_start_removes_what_dead_owners_left_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = base.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        // No process can have this number: it is beyond the kernel's PID_MAX_LIMIT of 2^22.
        let dead = make("noonmark-4194305-0");
        fs::write(dead.join("status.sock"), b"").unwrap();
        let half_gone = make("noonmark-4194305-1.gone");
        let own = std::process::id();
        let starting = make(&format!("noonmark-{own}-0"));
        let reused = make(&format!("noonmark-{own}-1"));
        fs::write(reused.join(DESCRIPTION), b"{}").unwrap();
        let held = make("noonmark-4194305-2");
        let lock = try_lock(&held).unwrap().unwrap();
        let foreign = make("noonmark-build");

        remove_stale(base.path());
        assert!(!dead.exists() && !half_gone.exists() && !reused.exists());
        assert!(starting.exists() && held.exists() && foreign.exists());
        drop(lock);
        remove_stale(base.path());
        assert!(!held.exists());
    }

    #[test]
    fn a_base_is_used_only_if_its_socket_paths_fit() {
        assert!(fits(Path::new("/run/user/1000")));
        assert!(!fits(Path::new(&format!("/{}", "x".repeat(80)))));
    }
}
