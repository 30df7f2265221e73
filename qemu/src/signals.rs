//! What happens on Ctrl-C: every machine killed, every file of a run removed, then the end.
//!
//! Whoever makes something that must not outlive this program registers its removal here in the
//! same breath ([`register_with`]). A signal runs what is registered, newest first, and ends the
//! process with 128 plus the signal's number, as a shell reports it. The lock stays taken from
//! then on, so that nothing new can come up in the meantime.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Cleanup = Box<dyn FnOnce() + Send>;

/// What a signal would run.
struct Cleanups {
    next: u64,
    by_id: BTreeMap<u64, Cleanup>,
    on_first: Option<(u64, Cleanup)>,
}

static CLEANUPS: Mutex<Cleanups> = Mutex::new(Cleanups {
    next: 0,
    by_id: BTreeMap::new(),
    on_first: None,
});

impl Cleanups {
    fn add(&mut self, cleanup: impl FnOnce() + Send + 'static) -> CleanupGuard {
        let id = self.next;
        self.next += 1;
        self.by_id.insert(id, Box::new(cleanup));
        CleanupGuard { id }
    }
}

/// Signals cannot be caught.
#[derive(Debug, thiserror::Error)]
#[error("cannot catch SIGINT, SIGTERM and SIGHUP: {0}")]
pub struct SignalError(#[from] io::Error);

/// Catches SIGINT, SIGTERM and SIGHUP from now on. To be called once, first thing in `main`.
///
/// # Errors
/// Where the system refuses a handler or a thread.
pub fn install() -> Result<(), SignalError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                handle(signal);
            }
        })?;
    Ok(())
}

fn handle(signal: i32) {
    let mut cleanups = lock();
    if let Some((_, act)) = cleanups.on_first.take() {
        drop(cleanups);
        act();
        return;
    }
    let registered = std::mem::take(&mut cleanups.by_id);
    for (_, cleanup) in registered.into_iter().rev() {
        cleanup();
    }
    // The lock is still held: no other thread can start a machine before the process is gone.
    std::process::exit(128 + signal);
}

/// Registers what a signal is to run; it must neither register nor drop a guard.
pub fn register(cleanup: impl FnOnce() + Send + 'static) -> CleanupGuard {
    lock().add(cleanup)
}

/// Makes something and registers its removal, with no signal in between.
///
/// `make` returns the thing and its removal. The removal must neither register nor drop a guard.
///
/// # Errors
/// What `make` returns.
pub fn register_with<T, E, C: FnOnce() + Send + 'static>(
    make: impl FnOnce() -> Result<(T, C), E>,
) -> Result<(T, CleanupGuard), E> {
    let mut cleanups = lock();
    let (made, cleanup) = make()?;
    Ok((made, cleanups.add(cleanup)))
}

/// Lets the first signal from now on only call `act`, e.g. to shut a guest down gracefully; the
/// second one ends the program. The latest caller wins.
#[must_use]
pub fn on_first_signal(act: impl FnOnce() + Send + 'static) -> FirstSignalGuard {
    let mut cleanups = lock();
    let id = cleanups.next;
    cleanups.next += 1;
    cleanups.on_first = Some((id, Box::new(act)));
    FirstSignalGuard { id }
}

/// Keeps a removal registered; dropping it takes the removal off the list without running it.
#[derive(Debug)]
#[must_use]
pub struct CleanupGuard {
    id: u64,
}

impl CleanupGuard {
    /// Runs the removal now, whole: a signal in the middle of it waits until it is done.
    pub fn run(&self) {
        let mut cleanups = lock();
        if let Some(cleanup) = cleanups.by_id.remove(&self.id) {
            cleanup();
        }
    }
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        let cleanup = lock().by_id.remove(&self.id);
        drop(cleanup);
    }
}

/// Keeps the action for the first signal; dropping it takes that back.
#[derive(Debug)]
pub struct FirstSignalGuard {
    id: u64,
}

impl Drop for FirstSignalGuard {
    fn drop(&mut self) {
        let on_first = {
            let mut cleanups = lock();
            match &cleanups.on_first {
                Some((id, _)) if *id == self.id => cleanups.on_first.take(),
                _ => None,
            }
        };
        drop(on_first);
    }
}

/// A panic elsewhere must not keep a signal from cleaning up, so poison is passed over: the list
/// is whole between any two statements that change it.
fn lock() -> MutexGuard<'static, Cleanups> {
    CLEANUPS.lock().unwrap_or_else(PoisonError::into_inner)
}
