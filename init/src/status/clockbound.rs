//! The time's bound for the guest's own programs: ClockBound's shared memory,
//! [`noonmark_contract::clockbound`].
//!
//! Services can only read it, those of user 0 included: the folder is a file system of its own, on which
//! a second, read-only mount lies before any service starts. PID 1 writes through the page that it
//! mapped by the first, which nobody can reach by a path any more.
//!
//! **The bound** that a reader computes at coarse time c is `bound + growth (c - as_of)`. The engine says
//! by how much its own bound grows: it is a maximum of straight lines over time, so that what lies
//! between now and [`AHEAD`] is below the line between its values there. Readers count time by a clock
//! that is behind by up to a tick and is slewed by up to 10 %; both are added here.
//!
//! It is the bound to UTC where that is known, with the host's own error in it. Where the host says
//! nothing of its clock, that is taken for UTC; where it says that nobody keeps it, the status is
//! `Unknown`.
//!
//! **The status** is `Disrupted` from the first sign that the clock may be wrong to its verified repair.
//! What is read between a disturbance and its first sign says `Synchronized` and can be wrong: nothing
//! that PID 1 writes can be sooner than its own wake. Where the machine has a VMClock, readers compare its
//! marker with the one that PID 1 has dealt with, and so a restored machine trusts nothing from its
//! first instruction on.

use std::fs::{self, File};
use std::io;
use std::sync::atomic::{Ordering, fence};

use noonmark_contract::clockbound::{self, ClockStatus, FOLDER, PATH, Segment};
use noonmark_contract::record::{State, UtcUnknown};
use noonmark_contract::units::Nanos;
use noonmark_linux::clocks;
use noonmark_linux::sys::SharedPage;
use noonmark_sync::engine::Engine;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};
use thiserror::Error;

use crate::boot::mounts::HARDENED;

/// How far ahead the growth of the bound is looked up. PID 1 looks at the clock at least that often.
const AHEAD: Nanos = Nanos::from_secs(1);

/// How long what was written last holds without anything new: readers themselves doubt it after 5 s.
const VALID: Nanos = Nanos::from_secs(10);

/// The longest bound that is written, 73 years: a reader adds to it and subtracts it from a date.
const BOUND_MAX: Nanos = Nanos(i64::MAX / 4);

/// Why there is no segment.
#[derive(Debug, Error)]
#[error("[status] clockbound: {what} {path}: {source}; programs find no bound there")]
pub struct ClockBoundError {
    what: &'static str,
    path: &'static str,
    source: io::Error,
}

/// The segment, and what stands in it.
#[derive(Debug)]
pub struct ClockBound {
    page: SharedPage,
    generation: u16,
    written: Segment,
    tick: Nanos,
}

/// What decides on the segment, all of it of one instant.
#[derive(Clone, Copy, Debug)]
struct View {
    coarse: Nanos,
    tick: Nanos,
    state: State,
    suspect: bool,
    bound: Nanos,
    /// The bound [`AHEAD`] of it, if nothing is done until then.
    later: Nanos,
    /// The bound to UTC.
    utc: Result<Nanos, UtcUnknown>,
    marker: Option<u64>,
}

impl ClockBound {
    /// Mounts the folder, makes the segment, in which nothing is known yet, and closes it to all others.
    ///
    /// # Errors
    /// [`ClockBoundError`].
    pub fn open() -> Result<Self, ClockBoundError> {
        let fail = |what, path| move |source: io::Error| ClockBoundError { what, path, source };
        let options = c"mode=0755,size=4k,nr_inodes=4";
        fs::create_dir_all(FOLDER).map_err(fail("making", FOLDER))?;
        mount("tmpfs", FOLDER, "tmpfs", HARDENED, options)
            .map_err(|errno| fail("mounting", FOLDER)(errno.into()))?;
        let segment = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(PATH)
            .and_then(|file| Self::create(&file))
            .map_err(fail("making", PATH))?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | HARDENED;
        mount_bind(FOLDER, FOLDER)
            .and_then(|()| mount_remount(FOLDER, flags, ""))
            .map_err(|errno| fail("closing", FOLDER)(errno.into()))?;
        Ok(segment)
    }

    /// The segment in an empty file.
    fn create(file: &File) -> io::Result<Self> {
        file.set_len(clockbound::LEN as u64)?;
        let mut created = Self {
            page: SharedPage::of(file)?,
            generation: 0,
            written: Segment::default(),
            tick: clocks::coarse_tick(),
        };
        created.write(Segment::default());
        Ok(created)
    }

    /// Says that the clock may be wrong, from now until the next [`ClockBound::publish`].
    pub fn distrust(&mut self) {
        self.write(Segment {
            status: ClockStatus::Disrupted,
            ..self.written
        });
    }

    /// Says how the clock stands by the engine, and how far it may be from UTC now. `marker` is the
    /// VMClock's that the engine has heard of.
    pub fn publish(
        &mut self,
        engine: &Engine,
        utc: Result<Nanos, UtcUnknown>,
        marker: Option<u64>,
    ) {
        // Before the bound is asked for: so much the longer a reader lets it grow.
        let coarse = clocks::monotonic_coarse();
        let now = clocks::raw();
        self.write(segment(&View {
            coarse,
            tick: self.tick,
            state: engine.state(),
            suspect: engine.suspects_clock(now),
            bound: engine.bound(now),
            later: engine.bound(now + AHEAD),
            utc,
            marker,
        }));
    }

    /// Writes the segment so that no reader takes half of it: see `generation` in the layout.
    fn write(&mut self, segment: Segment) {
        let writing = clockbound::unfinished(self.generation);
        self.generation = clockbound::finished(writing);
        self.written = segment;
        let place = |index: usize| self.page.word(index * 8);
        let generation = place(clockbound::GENERATION_WORD);
        generation.store(clockbound::header(writing), Ordering::Relaxed);
        // No word of the rest is seen before the odd generation is, and the even one after all of them.
        fence(Ordering::Release);
        let words = segment.words(writing).into_iter().enumerate();
        for (index, word) in words.filter(|(index, _)| *index != clockbound::GENERATION_WORD) {
            place(index).store(word, Ordering::Relaxed);
        }
        generation.store(clockbound::header(self.generation), Ordering::Release);
    }
}

fn segment(view: &View) -> Segment {
    let known = view.bound < BOUND_MAX;
    let status = match view.state {
        State::Unsynced => ClockStatus::Unknown,
        _ if !known || view.utc == Err(UtcUnknown::HostUnsynced) => ClockStatus::Unknown,
        State::Disrupted => ClockStatus::Disrupted,
        State::Synced | State::Holdover if view.suspect => ClockStatus::Disrupted,
        State::Synced => ClockStatus::Synchronized,
        State::Holdover => ClockStatus::FreeRunning,
    };
    // The host's own error grows by 500 ppm in the kernel's eyes, until it says something new.
    let host = view.utc.map_or(Nanos::ZERO, |utc| utc - view.bound);
    let later = if host > Nanos::ZERO {
        AHEAD.raw_skew()
    } else {
        Nanos::ZERO
    };
    let growth = growth_ppb(view.bound, view.later + later);
    let unseen = Nanos(i64::from(growth) * view.tick.0 / 1_000_000_000 + 1);
    Segment {
        as_of: view.coarse,
        void_after: view.coarse + VALID,
        bound: (view.bound + host + unseen).min(BOUND_MAX),
        growth_ppb: growth,
        status,
        marker: view.marker,
    }
}

/// By how many ppb a bound grows that is `later` at [`AHEAD`]; an eighth more, because readers count by
/// a clock that is slewed.
fn growth_ppb(bound: Nanos, later: Nanos) -> u32 {
    let grown = (later - bound).max(Nanos::ZERO);
    let ppb = i128::from(grown.0) * 1_000_000_000 / i128::from(AHEAD.0) + 1;
    let limit = i128::from(clockbound::GROWTH_MAX_PPB);
    (ppb * 9 / 8 + 1).min(limit) as u32
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use clock_bound_client::{ClockBoundClient, ClockStatus as Told};

    use super::*;

    const VIEW: View = View {
        coarse: Nanos::from_secs(100),
        tick: Nanos::from_millis(4),
        state: State::Synced,
        suspect: false,
        bound: Nanos(700),
        later: Nanos(16_700),
        utc: Err(UtcUnknown::HostSilent),
        marker: None,
    };

    #[test]
    fn the_status_is_that_of_the_clock_and_a_suspicion_is_a_disruption() {
        let status = |state, suspect| {
            segment(&View {
                state,
                suspect,
                ..VIEW
            })
            .status
        };
        assert_eq!(status(State::Unsynced, false), ClockStatus::Unknown);
        assert_eq!(status(State::Synced, false), ClockStatus::Synchronized);
        assert_eq!(status(State::Synced, true), ClockStatus::Disrupted);
        assert_eq!(status(State::Holdover, false), ClockStatus::FreeRunning);
        assert_eq!(status(State::Holdover, true), ClockStatus::Disrupted);
        assert_eq!(status(State::Disrupted, false), ClockStatus::Disrupted);
    }

    #[test]
    fn the_hosts_error_is_in_the_bound_and_a_host_that_nobody_keeps_makes_it_unknown() {
        let of = |utc| segment(&View { utc, ..VIEW });
        let silent = of(Err(UtcUnknown::HostSilent));
        let kept = of(Ok(Nanos(5_700)));
        let more = kept.bound - silent.bound;
        assert!(more >= Nanos(5_000) && more < Nanos(8_000), "{more}");
        assert!(kept.growth_ppb >= silent.growth_ppb + 500_000);
        assert_eq!(kept.status, ClockStatus::Synchronized);
        assert_eq!(
            of(Err(UtcUnknown::HostUnsynced)).status,
            ClockStatus::Unknown
        );
    }

    #[test]
    fn what_no_bound_is_known_of_is_unknown_and_its_bound_can_be_added_to() {
        let segment = segment(&View {
            bound: Nanos::MAX,
            later: Nanos::MAX,
            ..VIEW
        });
        assert_eq!(segment.status, ClockStatus::Unknown);
        assert_eq!(segment.bound, BOUND_MAX);
    }

    /// A reader's clock stands still for a tick, and runs 10 % slow while the guest's clock is slewed.
    #[test]
    fn the_bound_that_a_reader_computes_is_never_below_the_engines() {
        let segment = segment(&VIEW);
        for elapsed in (0..=1_000_000_000).step_by(1_000_003) {
            let engines = 700 + 16_000 * elapsed / 1_000_000_000;
            let counted = (elapsed * 9 / 10 - VIEW.tick.0).max(0);
            let readers = segment.bound.0 + i64::from(segment.growth_ppb) * counted / 1_000_000_000;
            assert!(
                readers >= engines,
                "{readers} < {engines} after {elapsed} ns"
            );
        }
        assert!(segment.bound < Nanos(800), "{segment:?}");
    }

    fn shared(name: &str) -> (ClockBound, tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let path = path.display().to_string();
        (ClockBound::create(&file).unwrap(), folder, path)
    }

    /// ClockBound's own client is the judge of the layout.
    #[test]
    fn clockbounds_client_reads_what_was_written() {
        let (mut ours, _folder, path) = shared("shm0");
        let mut client = ClockBoundClient::new_with_path(&path).unwrap();
        assert_eq!(client.now().unwrap().clock_status, Told::Unknown);
        for (status, told) in [
            (ClockStatus::Synchronized, Told::Synchronized),
            (ClockStatus::FreeRunning, Told::FreeRunning),
            (ClockStatus::Disrupted, Told::Disrupted),
        ] {
            let as_of = clocks::monotonic_coarse();
            ours.write(Segment {
                as_of,
                void_after: as_of + VALID,
                bound: Nanos(123_456_789),
                growth_ppb: 0,
                status,
                marker: None,
            });
            let now = client.now().unwrap();
            assert_eq!(now.clock_status, told);
            assert_eq!(
                (now.latest - now.earliest).tv_nsec(),
                2 * 123_456_789,
                "{now:?}"
            );
        }
        ours.distrust();
        assert_eq!(client.now().unwrap().clock_status, Told::Disrupted);
    }

    #[test]
    fn clockbounds_client_trusts_nothing_that_is_void() {
        let (mut ours, _folder, path) = shared("shm0");
        let mut client = ClockBoundClient::new_with_path(&path).unwrap();
        let now = clocks::monotonic_coarse();
        let written = |age: Nanos| Segment {
            as_of: now - age,
            void_after: now - age + VALID,
            status: ClockStatus::Synchronized,
            ..Segment::default()
        };
        ours.write(written(Nanos::from_secs(6)));
        assert_eq!(client.now().unwrap().clock_status, Told::FreeRunning);
        ours.write(written(VALID));
        assert_eq!(client.now().unwrap().clock_status, Told::Unknown);
    }

    /// A writer at full speed: half a segment would have a bound that is not the growth's.
    #[test]
    fn clockbounds_client_never_reads_half_a_segment() {
        let (mut ours, _folder, path) = shared("shm0");
        let reader = thread::spawn(move || {
            let mut client = ClockBoundClient::new_with_path(&path).unwrap();
            let mut statuses = 0;
            for _ in 0..20_000 {
                let now = client.now().unwrap();
                let width = (now.latest - now.earliest).tv_nsec();
                match now.clock_status {
                    Told::Synchronized => assert_eq!(width, 2 * 111_111),
                    Told::FreeRunning => assert_eq!(width, 2 * 999_999),
                    _ => continue,
                }
                statuses += 1;
            }
            statuses
        });
        let mut even = false;
        while !reader.is_finished() {
            even = !even;
            let as_of = clocks::monotonic_coarse();
            let (bound, status) = if even {
                (Nanos(111_111), ClockStatus::Synchronized)
            } else {
                (Nanos(999_999), ClockStatus::FreeRunning)
            };
            ours.write(Segment {
                as_of,
                void_after: as_of + VALID,
                bound,
                growth_ppb: 0,
                status,
                marker: None,
            });
            if even {
                thread::sleep(Duration::from_micros(5));
            }
        }
        assert!(reader.join().unwrap() > 1_000);
    }
}
