//! Makes the status port's records: what the engine knows of the clock, and what PID 1 knows of the
//! machine and of itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::mem;

use noonmark_contract::host_clock::NOT_KEPT;
use noonmark_contract::record::{
    self, Alert, Boot, DiskState, DiskStatus, Effective, Event, EventRecord, Record, Seed,
    ServiceStatus, State, Status, Usage, UtcUnknown,
};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;
use noonmark_linux::log;

use crate::boot::early::Started;
use crate::clock::discipline::Discipline;
use crate::clock::kernel::{self, Declared};

use super::port::StatusPort;

const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
const STATM: &str = "/proc/self/statm";

/// Numbers the records of this boot, and keeps what they have in common.
#[derive(Debug)]
pub struct Reporter {
    sequence: u64,
    started: Started,
    kernel: String,
    /// Kept open: the current clocksource can change, and a read costs less than an open.
    clocksource: Option<File>,
    statm: Option<File>,
    page_kib: u64,
    measured: (Raw, Nanos),
    config: BTreeMap<String, Effective>,
    seed: Seed,
    disks: Vec<DiskStatus>,
    declare_failed: bool,
}

impl Reporter {
    /// For a PID 1 that started then. `/proc` and `/sys` must be mounted.
    #[must_use]
    pub fn new(started: Started) -> Self {
        let uname = rustix::system::uname();
        Self {
            sequence: 0,
            started,
            kernel: uname.release().to_string_lossy().into_owned(),
            clocksource: File::open(CLOCKSOURCE).ok(),
            statm: File::open(STATM).ok(),
            page_kib: rustix::param::page_size() as u64 / 1024,
            measured: (started.raw, started.cpu),
            config: BTreeMap::new(),
            seed: Seed::default(),
            disks: Vec::new(),
            declare_failed: false,
        }
    }

    /// What the configuration is from here on, and what came of the seed.
    pub fn configured(&mut self, config: BTreeMap<String, Effective>, seed: Seed) {
        self.config = config;
        self.seed = seed;
    }

    /// How far the data disks are from here on.
    pub fn mounted(&mut self, disks: &[DiskStatus]) {
        self.disks = disks.to_vec();
    }

    /// Tells the kernel what is known of the clock's error, while it is synced.
    ///
    /// Where the host says that nobody keeps its clock, nor does anybody know how far this one is from
    /// UTC, and the kernel hears what it claims by itself then. Where the host says nothing, its clock
    /// is taken for UTC.
    pub fn declare(&mut self, discipline: &Discipline) {
        let engine = discipline.engine();
        if engine.state() != State::Synced {
            return;
        }
        let now = clocks::raw();
        let (bound, host) = (engine.bound(now), discipline.host_clock(now));
        let (maxerror, is_known) = match discipline.utc_bound(now) {
            Ok(bound) => (bound, true),
            Err(UtcUnknown::HostUnsynced) => (NOT_KEPT, false),
            Err(_) => (bound, true),
        };
        let expected = host.map_or(Nanos::ZERO, |(host, _)| host.esterror_ns);
        let declared = kernel::declare(&Declared {
            maxerror: maxerror.min(NOT_KEPT),
            esterror: (engine.jitter() + expected).min(NOT_KEPT),
            unsync: !(is_known && discipline.rtcsync()),
            tai_offset_s: discipline.tai_offset_s(now),
        });
        if let Err(errno) = declared
            && !self.declare_failed
        {
            self.declare_failed = true;
            log!(Warning, "adjtimex: telling the error of the clock: {errno}");
        }
    }

    /// The line of an event record.
    pub fn event(&mut self, event: Event) -> Vec<u8> {
        self.sequence += 1;
        line(&Record::Event(EventRecord {
            v: record::VERSION,
            seq: self.sequence,
            time_ns: clocks::realtime(),
            uptime_ns: clocks::boottime(),
            event,
        }))
    }

    /// The line of a status record.
    pub fn status(
        &mut self,
        discipline: &Discipline,
        port: &StatusPort,
        services: Vec<ServiceStatus>,
        frozen: bool,
    ) -> Vec<u8> {
        self.sequence += 1;
        let now = clocks::raw();
        let utc = discipline.utc_bound(now);
        let mut status = Status {
            seq: self.sequence,
            time_ns: clocks::realtime(),
            uptime_ns: clocks::boottime(),
            dropped: port.dropped(),
            rejected: port.rejected(),
            boot: Boot {
                kernel_to_init_ns: self.started.monotonic,
                init_to_synced_ns: discipline.synced_at().map(|at| at - self.started.raw),
            },
            init: self.usage(),
            clocksource: self.clocksource(),
            frozen,
            services,
            // Lent, for copying them is a good part of what a record costs.
            kernel: mem::take(&mut self.kernel),
            config: mem::take(&mut self.config),
            seed: mem::take(&mut self.seed),
            disks: mem::take(&mut self.disks),
            utc_bound_ns: utc.ok(),
            utc_unknown: utc.err(),
            host_clock: discipline.host_clock(now).map(|(clock, _)| clock),
            ..discipline.engine().status(now)
        };
        let lacks = |disk: &DiskStatus| matches!(disk.state, DiskState::Absent | DiskState::Failed);
        if status.disks.iter().any(lacks) {
            status.alerts.push(Alert::DiskMissing);
        }
        for rung in &mut status.sources {
            if let Some(why) = discipline.refusal(&rung.source)
                && rung.good == 0
            {
                rung.last_failure = Some(why.into());
            }
        }
        let record = Record::Status(status);
        let line = line(&record);
        if let Record::Status(status) = record {
            (self.kernel, self.config, self.seed) = (status.kernel, status.config, status.seed);
            self.disks = status.disks;
        }
        line
    }

    fn usage(&mut self) -> Usage {
        let (then, used_then) = self.measured;
        let (now, used) = (clocks::raw(), clocks::cpu_time());
        self.measured = (now, used);
        Usage {
            cpu_ppm: share_ppm(used - used_then, now - then),
            rss_kib: self.resident_pages().unwrap_or(0) * self.page_kib,
        }
    }

    fn resident_pages(&self) -> Option<u64> {
        let mut buffer = [0u8; 128];
        let text = read_start(self.statm.as_ref()?, &mut buffer)?;
        text.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    fn clocksource(&self) -> String {
        let mut buffer = [0u8; 64];
        let told = self
            .clocksource
            .as_ref()
            .and_then(|file| read_start(file, &mut buffer));
        told.unwrap_or("unknown").trim_end().into()
    }
}

/// The beginning of a file of `/proc` or `/sys`, made anew by the kernel at each read from 0.
fn read_start<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let count = rustix::io::pread(file, &mut *buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..count]).ok()
}

/// `used` of `elapsed` in millionths.
fn share_ppm(used: Nanos, elapsed: Nanos) -> u64 {
    let ppm = i128::from(used.0) * 1_000_000 / i128::from(elapsed.0.max(1));
    u64::try_from(ppm).unwrap_or(0)
}

fn line(record: &Record) -> Vec<u8> {
    // Every field of a record has a JSON form, so that this can only fail for lack of memory,
    // which ends the process anyway; an empty line tells the host nothing wrong.
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_share_is_in_millionths_of_the_time_that_passed() {
        assert_eq!(share_ppm(Nanos::from_millis(5), Nanos::from_secs(1)), 5_000);
        assert_eq!(share_ppm(Nanos(1), Nanos(0)), 1_000_000);
        assert_eq!(share_ppm(Nanos(-1), Nanos(10)), 0);
    }

    #[test]
    fn records_are_numbered_from_one_without_gaps() {
        let mut reporter = Reporter::new(Started::now());
        for expected in 1..=3 {
            let line = reporter.event(Event::Failure {
                what: "x\ny".into(),
            });
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let record: Record = serde_json::from_slice(&line).unwrap();
            let Record::Event(record) = record else {
                panic!("{record:?} is no event");
            };
            assert_eq!(record.seq, expected);
        }
    }

    #[test]
    fn this_process_has_a_size_and_the_kernel_a_clocksource() {
        let mut reporter = Reporter::new(Started::now());
        assert!(reporter.usage().rss_kib > 100);
        assert!(!reporter.clocksource().is_empty());
    }
}
