//! The host's end of the time channel, port `noonmark.time`: it answers each request with the
//! host's UTC at receipt and at sending, and adds what the host's kernel says of its clock.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use noonmark_contract::channel::{self, Decoder, FRAME_LEN, Frame as _, Request, Told};
use noonmark_contract::host_clock::HostClock;
use noonmark_contract::units::Utc;

use crate::port::{self, PortError};

pub use behaviour::Behaviour;

mod behaviour;
mod host_clock;

/// How often a server looks whether it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

/// How long a guest may leave answers unread before the connection is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// How long a lost connection is retried.
const RECONNECT_DEADLINE: Duration = Duration::from_secs(60);

/// Time between two tries.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// What a server has done so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests answered.
    pub answered: AtomicU64,
    /// Bytes that belonged to no request.
    pub garbage_bytes: AtomicU64,
}

/// What [`serve`] tells of its connection while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It is connected and answers.
    Made,
    /// The connection ended; it will be tried again.
    Lost,
}

/// The host's UTC now, from `CLOCK_REALTIME`; before 1970 and after 2262 the nearest of the two.
#[must_use]
pub fn host_utc() -> Utc {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Utc(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// A server on a connected socket, in a thread of its own; it ends with the connection.
#[derive(Debug)]
pub struct TimeServer {
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    conduct: Arc<Mutex<Conduct>>,
    thread: Option<JoinHandle<()>>,
}

/// What a server is told to do.
#[derive(Clone, Copy, Debug, Default)]
struct Conduct {
    behaviour: Behaviour,
    /// What it says of the host's clock, if not what the kernel does.
    told: Option<HostClock>,
}

impl TimeServer {
    /// Starts to answer on `stream` as a truechimer.
    ///
    /// # Errors
    /// Where the system refuses a thread or a deadline.
    pub fn start(stream: UnixStream) -> io::Result<Self> {
        Self::start_with(stream, host_utc)
    }

    fn start_with(
        stream: UnixStream,
        mut clock: impl FnMut() -> Utc + Send + 'static,
    ) -> io::Result<Self> {
        prepare(&stream)?;
        let counts = Arc::new(Counts::default());
        let stop = Arc::new(AtomicBool::new(false));
        let conduct = Arc::new(Mutex::new(Conduct::default()));
        let (counted, stopped) = (Arc::clone(&counts), Arc::clone(&stop));
        let chosen = Arc::clone(&conduct);
        let thread = thread::Builder::new()
            .name("time-server".to_owned())
            .spawn(move || answer_all(&stream, &mut clock, &chosen, &stopped, &counted))?;
        Ok(Self {
            counts,
            stop,
            conduct,
            thread: Some(thread),
        })
    }

    /// Answers in this way from the next request on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.conduct
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .behaviour = behaviour;
    }

    /// Says this of the host's clock from the next answer on, whatever the kernel says.
    pub fn set_host_clock(&self, told: HostClock) {
        let mut conduct = self.conduct.lock().unwrap_or_else(PoisonError::into_inner);
        conduct.told = Some(told);
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

/// Serves the chardev socket of any QEMU at `path`, and connects again when the connection ends,
/// until `stop` is set.
///
/// # Errors
/// Where the first connection fails, or a lost one does not come back within a minute.
pub fn serve(
    path: &Path,
    mut clock: impl FnMut() -> Utc,
    stop: &AtomicBool,
    counts: &Counts,
    progress: &mut dyn FnMut(Connection),
) -> Result<(), PortError> {
    let mut stream = port::connect(path)?;
    let conduct = Mutex::new(Conduct::default());
    loop {
        prepare(&stream).map_err(PortError::Write)?;
        progress(Connection::Made);
        answer_all(&stream, &mut clock, &conduct, stop, counts);
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        progress(Connection::Lost);
        drop(stream);
        match reconnect(path, stop)? {
            Some(again) => stream = again,
            None => return Ok(()),
        }
    }
}

/// Tries until the deadline; none where `stop` was set.
fn reconnect(path: &Path, stop: &AtomicBool) -> Result<Option<UnixStream>, PortError> {
    let deadline = Instant::now() + RECONNECT_DEADLINE;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(RECONNECT_PAUSE);
        match port::connect(path) {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => {}
        }
    }
    Ok(None)
}

fn prepare(stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(STOP_CHECK))?;
    stream.set_write_timeout(Some(WRITE_DEADLINE))
}

/// Answers until the connection ends or `stop` is set.
fn answer_all(
    mut stream: &UnixStream,
    clock: &mut impl FnMut() -> Utc,
    conduct: &Mutex<Conduct>,
    stop: &AtomicBool,
    counts: &Counts,
) {
    let mut decoder = Decoder::<Request>::default();
    let mut chunk = [0; 16 * channel::FRAME_LEN];
    while !stop.load(Ordering::Relaxed) {
        let read = stream.read(&mut chunk);
        // Taken before anything else: every nanosecond until here is error in the guest's eyes.
        let t2 = clock();
        let count = match read {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => continue,
                _ => return,
            },
        };
        decoder.push(&chunk[..count]);
        loop {
            let skipped = decoder.skipped_bytes();
            let request = decoder.next_frame();
            let garbage = decoder.skipped_bytes() - skipped;
            counts.garbage_bytes.fetch_add(garbage, Ordering::Relaxed);
            let Some(request) = request else {
                break;
            };
            let conduct = *conduct.lock().unwrap_or_else(PoisonError::into_inner);
            // Before the answer is made, so that it lies within t2 and t3.
            let told = conduct.told.or_else(host_clock::read);
            if let Some(frame) = conduct.behaviour.answer(&request, t2, clock)
                && stream
                    .write_all(&with_clock(frame, &request, told))
                    .is_err()
            {
                return;
            }
            counts.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An answer, and what is known of the host's clock, in one piece.
fn with_clock(frame: [u8; FRAME_LEN], request: &Request, told: Option<HostClock>) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    if let Some(clock) = told {
        let sequence = request.sequence;
        bytes.extend(Told { sequence, clock }.encode());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;

    use noonmark_contract::channel::Answer;
    use noonmark_contract::units::{Nanos, Raw};

    use super::*;

    fn ticking() -> impl FnMut() -> Utc + Send {
        let mut now = 0;
        move || {
            now += 10;
            Utc(now)
        }
    }

    fn request(sequence: u32) -> Request {
        Request {
            sequence,
            t1: Raw(77),
        }
    }

    fn ask(mut stream: &UnixStream, sequence: u32) -> Answer {
        stream.write_all(&request(sequence).encode()).unwrap();
        let mut frames = [0; 2 * FRAME_LEN];
        stream.read_exact(&mut frames).unwrap();
        let mut decoder = Decoder::<Answer>::default();
        decoder.push(&frames);
        decoder.next_frame().unwrap()
    }

    #[test]
    fn what_is_said_of_the_hosts_clock_follows_each_answer() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let server = TimeServer::start_with(host, ticking()).unwrap();
        let told = HostClock {
            maxerror_ns: Nanos(7_000),
            tai_offset_s: 37,
            ..host_clock::read().unwrap()
        };
        server.set_host_clock(told);
        guest.write_all(&request(3).encode()).unwrap();
        let mut frames = [0; 2 * FRAME_LEN];
        guest.read_exact(&mut frames).unwrap();
        let mut decoder = Decoder::<Told>::default();
        decoder.push(&frames);
        let clock = told;
        assert_eq!(decoder.next_frame(), Some(Told { sequence: 3, clock }));
    }

    #[test]
    fn an_answer_carries_receipt_and_sending_in_that_order() {
        let (guest, host) = UnixStream::pair().unwrap();
        let server = TimeServer::start_with(host, ticking()).unwrap();
        let first = ask(&guest, 5);
        assert_eq!((first.sequence, first.t1), (5, Raw(77)));
        assert!(first.t2 < first.t3, "{first:?}");
        let second = ask(&guest, 6);
        assert!(first.t3 < second.t2);
        // The second request was read only after the first was counted.
        assert!(server.counts().answered.load(Ordering::Relaxed) >= 1);
    }

    #[test]
    fn garbage_is_counted_and_what_follows_it_answered() {
        let (guest, host) = UnixStream::pair().unwrap();
        let server = TimeServer::start_with(host, ticking()).unwrap();
        (&guest).write_all(&[0xAA; 1000]).unwrap();
        (&guest).write_all(&request(1).encode()[..20]).unwrap();
        assert_eq!(ask(&guest, 9).sequence, 9);
        drop(guest);
        assert!(server.counts().garbage_bytes.load(Ordering::Relaxed) >= 1000);
    }

    #[test]
    fn the_host_s_clock_is_the_system_s() {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let apart = host_utc()
            .0
            .abs_diff(i64::try_from(system.as_nanos()).unwrap());
        assert!(apart < 60_000_000_000, "{apart} ns apart");
    }

    #[test]
    fn a_foreign_port_is_served_again_after_it_was_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("time");
        let listener = UnixListener::bind(&path).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (events, progress) = mpsc::channel();
        let (served, stopped) = (path.clone(), Arc::clone(&stop));
        let server = thread::spawn(move || {
            serve(
                &served,
                ticking(),
                &stopped,
                &Counts::default(),
                &mut |event| {
                    events.send(event).unwrap();
                },
            )
        });
        for _ in 0..2 {
            let (guest, _) = listener.accept().unwrap();
            assert_eq!(ask(&guest, 3).sequence, 3);
        }
        stop.store(true, Ordering::Relaxed);
        server.join().unwrap().unwrap();
        let seen: Vec<Connection> = progress.try_iter().take(3).collect();
        assert_eq!(seen, [Connection::Made, Connection::Lost, Connection::Made]);
    }

    #[test]
    fn a_foreign_port_that_is_not_there_is_an_error_at_once() {
        let nowhere = Path::new("/nonexistent/port");
        let stop = AtomicBool::new(false);
        let error = serve(nowhere, host_utc, &stop, &Counts::default(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/port"));
    }
}
