//! Finding out what a server's association is, on a thread of its own: a dead resolver, or a server
//! that takes its time over a key exchange, holds up nobody else's round.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::SystemTime;

use noonmark_contract::config::network::{RESOLV_CONF, Server as Name};
use noonmark_contract::units::{Nanos, Raw, Utc};

use super::association::{Association, Setup, SetupError};

/// How long after a failure it is tried again: where nobody was reached, as before the network is
/// up, and at most ...
const UNREACHED_FIRST: Nanos = Nanos::from_millis(250);
const UNREACHED_LAST: Nanos = Nanos::from_secs(16);

/// ... and where the server was reached and it came to nothing (RFC 8915, 4.2, asks for at least
/// ten seconds, and for more from one failure to the next).
const REFUSED_FIRST: Nanos = Nanos::from_secs(10);
const REFUSED_LAST: Nanos = Nanos::from_secs(3_600);

/// The stack of such a thread; verifying a chain of certificates takes most.
const STACK: usize = 512 * 1024;

/// Ends a wait when a lookup ends.
pub struct Bell {
    reader: PipeReader,
    writer: Arc<PipeWriter>,
}

/// One server's lookups.
pub struct Lookup {
    name: Name,
    setup: Arc<dyn Setup>,
    pending: Option<Pending>,
    failures: u32,
    retry_at: Option<Raw>,
}

/// One that has not ended.
struct Pending {
    outcome: Receiver<Result<Association, SetupError>>,
    began: Raw,
    /// When the name servers were last written down, as it began.
    resolvers: Option<SystemTime>,
}

impl Bell {
    /// A new one.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self {
            reader,
            writer: Arc::new(writer),
        })
    }

    /// The descriptor to wait on.
    pub fn descriptor(&self) -> &PipeReader {
        &self.reader
    }

    /// Takes back what ended the wait, once the descriptor has something to read.
    pub fn quiet(&mut self) {
        // Whoever rang is looked for in any case.
        let _ = self.reader.read(&mut [0; 64]);
    }
}

impl Lookup {
    /// Nothing is known of the server yet.
    pub fn new(name: Name, setup: Arc<dyn Setup>) -> Self {
        Self {
            name,
            setup,
            pending: None,
            failures: 0,
            retry_at: None,
        }
    }

    /// Whether the first one is under way since `since`, so that it is worth waiting for a moment.
    pub fn is_first_since(&self, since: Raw) -> bool {
        let pending = self.pending.as_ref();
        self.failures == 0 && pending.is_some_and(|pending| pending.began >= since)
    }

    /// When it is worth a look again.
    pub fn due_at(&self, now: Raw) -> Raw {
        self.retry_at.unwrap_or(now)
    }

    /// Begins one, unless one is under way or it is too soon. What is known at once is returned.
    pub fn begin(&mut self, now: Raw, known: Option<Utc>, bell: &Bell) -> Option<Association> {
        let resolvers = resolvers();
        // One that began before the name servers were known asks nobody who could tell.
        let is_useful = |pending: &Pending| pending.resolvers == resolvers;
        if self.pending.as_ref().is_some_and(is_useful) {
            return None;
        }
        let superseded = self.pending.take().is_some();
        if !superseded && self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        if let Some(association) = self.setup.at_once(&self.name) {
            return Some(association);
        }
        let (sender, outcome) = sync_channel(1);
        let (name, setup) = (self.name.clone(), Arc::clone(&self.setup));
        let bell = Arc::clone(&bell.writer);
        let look = move || {
            // Nobody waits any more where these fail.
            let _ = sender.send(setup.set_up(&name, known));
            let _ = (&*bell).write(&[0]);
        };
        // Without a thread the receiver is found to be deserted, which is a failure like another.
        let _ = thread::Builder::new().stack_size(STACK).spawn(look);
        self.pending = Some(Pending {
            outcome,
            began: now,
            resolvers,
        });
        None
    }

    /// What one that has ended came to.
    pub fn take(&mut self, now: Raw) -> Option<Result<Association, String>> {
        let outcome = match self.pending.as_ref()?.outcome.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                Err(SetupError::Unreached("its thread did not run".into()))
            }
        };
        self.pending = None;
        Some(match outcome {
            Ok(association) => {
                self.failures = 0;
                self.retry_at = None;
                Ok(association)
            }
            Err(SetupError::Unreached(why)) => {
                self.retry_later(now, UNREACHED_FIRST, UNREACHED_LAST);
                Err(why)
            }
            Err(SetupError::Refused(why)) => {
                self.retry_later(now, REFUSED_FIRST, REFUSED_LAST);
                Err(why)
            }
        })
    }

    /// Begins none for a while: what asks for one may be forged.
    pub fn leave_alone(&mut self, now: Raw) {
        self.retry_later(now, REFUSED_FIRST, REFUSED_LAST);
    }

    fn retry_later(&mut self, now: Raw, first: Nanos, last: Nanos) {
        let pause = Nanos(first.0 << self.failures.min(20)).min(last);
        self.failures += 1;
        self.retry_at = Some(now + pause);
    }
}

/// When the name servers were last written down.
fn resolvers() -> Option<SystemTime> {
    fs::metadata(RESOLV_CONF).ok()?.modified().ok()
}
