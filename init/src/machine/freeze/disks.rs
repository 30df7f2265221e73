//! Freezes and thaws data disks, on a thread of its own: what is frozen is written out first, and a disk
//! that doesn't answer keeps whoever writes to it in the kernel.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use noonmark_linux::sys;
use rustix::fs::syncfs;
use rustix::io::Errno;

use crate::helper;

/// The last freeze or thaw, as long as nobody knows what came of it.
#[derive(Debug, Default)]
pub struct Disks(Option<Arc<Job>>);

/// A freeze or a thaw under way.
#[derive(Debug, Default)]
struct Job {
    outcome: OnceLock<Result<u32, String>>,
    /// Nobody waits for it any more.
    abandoned: AtomicBool,
}

impl Disks {
    /// Freezes what is mounted on these folders, or thaws it; a freeze that is still under way undoes
    /// itself once it is done.
    pub fn begin(&mut self, folders: Vec<String>, freeze: bool) {
        if let Some(job) = self.0.take() {
            job.abandoned.store(true, Ordering::SeqCst);
        }
        let job = Arc::new(Job::default());
        let own = Arc::clone(&job);
        let started = helper::start(Box::new(move || {
            let done = if freeze {
                freeze_all(&folders)
            } else {
                thaw_all(&folders)
            };
            let _ = own.outcome.set(done);
            if freeze && own.abandoned.load(Ordering::SeqCst) {
                // It took too long, and nobody knows of it: it must not last.
                let _ = thaw_all(&folders);
            }
        }));
        if let Err(error) = started {
            let why = format!("no thread for the data disks: {error}");
            let _ = job.outcome.set(Err(why));
        }
        self.0 = Some(job);
    }

    /// What came of it, once: how many file systems.
    pub fn take_outcome(&mut self) -> Option<Result<u32, String>> {
        let outcome = self.0.as_ref()?.outcome.get()?.clone();
        self.0 = None;
        Some(outcome)
    }
}

/// Freezes all, or none: those before one that can't be frozen are thawed again.
fn freeze_all(folders: &[String]) -> Result<u32, String> {
    let mut count = 0;
    for folder in folders {
        let done = open(folder).and_then(|file| match sys::freeze_file_system(&file) {
            Ok(()) => Ok(1),
            // It is frozen already.
            Err(Errno::BUSY) => Ok(1),
            // A kind that can't be frozen, as vfat: its writers stand still, and all is written out.
            Err(Errno::OPNOTSUPP) => syncfs(&file).map(|()| 0),
            Err(errno) => Err(errno),
        });
        match done {
            Ok(one) => count += one,
            Err(errno) => {
                let _ = thaw_all(folders);
                return Err(format!("failed to freeze {folder}: {errno}"));
            }
        }
    }
    Ok(count)
}

/// Thaws each that is frozen; one that can't be thawed keeps no other from it.
fn thaw_all(folders: &[String]) -> Result<u32, String> {
    let (mut count, mut problems) = (0, Vec::new());
    for folder in folders {
        match open(folder).and_then(|file| sys::thaw_file_system(&file)) {
            Ok(()) => count += 1,
            // It isn't frozen, or can't be.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(errno) => problems.push(format!("failed to thaw {folder}: {errno}")),
        }
    }
    if problems.is_empty() {
        Ok(count)
    } else {
        Err(problems.join("; "))
    }
}

fn open(folder: &str) -> Result<File, Errno> {
    File::open(folder).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn outcome(folders: &[&str], freeze: bool) -> Result<u32, String> {
        let folders = folders.iter().map(|&folder| folder.into()).collect();
        let mut disks = Disks::default();
        disks.begin(folders, freeze);
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(outcome) = disks.take_outcome() {
                assert_eq!(disks.take_outcome(), None);
                return outcome;
            }
            assert!(Instant::now() < until, "it never ends");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_machine_without_data_disks_is_frozen_at_once() {
        assert_eq!(outcome(&[], true), Ok(0));
        assert_eq!(outcome(&[], false), Ok(0));
    }

    #[test]
    fn what_can_not_be_frozen_is_told_by_its_folder() {
        let told = outcome(&["/proc", "/nowhere"], true).unwrap_err();
        // The kernel's own file systems can't be frozen, for want of the right or of the means.
        assert!(told.starts_with("failed to freeze /"), "{told}");
        let told = outcome(&["/nowhere"], false).unwrap_err();
        assert!(
            told.starts_with("failed to thaw /nowhere: No such file"),
            "{told}"
        );
    }
}
