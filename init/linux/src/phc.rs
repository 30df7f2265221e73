//! PTP hardware clocks (PHCs): found by name under `/sys/class/ptp`, read by the best of the three
//! `PTP_SYS_OFFSET` ioctls that the driver offers.

pub mod probing;

use std::fs::{self, File};
use std::path::Path;

use libc::ptp_clock_time;
use noonmark_contract::sample::{Method, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Raw, Utc};
use rustix::io::Errno;

use crate::clocks::Sandwich;
use crate::phc::probing::Probing;
use crate::sys;

/// Where the kernel lists the PHCs.
pub const CLASS: &str = "/sys/class/ptp";

/// What PRECISE itself can be wrong by: the driver pairs one counter value with three clocks, and
/// each conversion from cycles rounds to a nanosecond or two of its own.
const PRECISE_BOUND: Nanos = Nanos(10);

/// How long a method that was refused is left alone before it is tried again.
const RETRY_BETTER: Nanos = Nanos::from_secs(60);

/// How many RAW/REALTIME/RAW readings a pairing with RAW takes the tightest of.
const PAIRING_READS: usize = 3;

/// How often a pairing that a step of the clock cut through is tried.
const PAIRING_TRIES: usize = 3;

/// One PHC that the ladder names.
#[derive(Debug)]
pub struct Phc {
    source: Source,
    name: String,
    node: String,
    device: File,
    method: Method,
    retry_better_at: Raw,
}

/// The PHCs present that `ladder` names, at most one for each source and without those of `probing`,
/// and what could not be opened.
#[must_use]
pub fn discover(
    class: &Path,
    dev: &Path,
    ladder: &[Source],
    probing: &Probing,
) -> (Vec<Phc>, Vec<String>) {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(class)
        .map(|dir| dir.flatten().map(|entry| entry.file_name()).collect())
        .unwrap_or_default();
    entries.sort();
    entries.retain(|entry| !probing.has(&entry.to_string_lossy()));
    for entry in entries {
        let Ok(name) = fs::read_to_string(class.join(&entry).join("clock_name")) else {
            continue;
        };
        let name = name.trim_end();
        let Some(source) = ladder.iter().find(|source| source.is_phc(name)) else {
            continue;
        };
        if found.iter().any(|phc: &Phc| phc.source == *source) {
            continue;
        }
        let node = dev.join(&entry);
        match File::open(&node) {
            Ok(device) => found.push(Phc {
                source: source.clone(),
                name: name.into(),
                node: node.display().to_string(),
                device,
                method: Method::Precise,
                retry_better_at: Raw(i64::MAX),
            }),
            Err(error) => problems.push(format!("{} ({name}): {error}", node.display())),
        }
    }
    (found, problems)
}

impl Phc {
    /// The source that this device serves.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The name that its driver gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its device file.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Tries the best method again at the next reading.
    pub fn forget_method(&mut self) {
        self.method = Method::Precise;
    }

    /// Takes a reading by the best method that works.
    ///
    /// # Errors
    /// [`ReadFailure::Refused`] with the last method's errno where none works, `Absent` where the
    /// device is gone.
    pub fn read(&mut self, now: Raw) -> Result<Reading, ReadFailure> {
        if now >= self.retry_better_at {
            self.forget_method();
        }
        let mut method = self.method;
        loop {
            match self.read_by(method) {
                Ok(reading) => {
                    self.keep(method, now);
                    return Ok(reading);
                }
                Err(Failure::Garbage) => return Err(ReadFailure::Garbage),
                Err(Failure::Errno(errno)) => match next_method(method) {
                    Some(worse) => method = worse,
                    None => return Err(refusal(errno)),
                },
            }
        }
    }

    fn keep(&mut self, method: Method, now: Raw) {
        self.retry_better_at = match method {
            Method::Precise => Raw(i64::MAX),
            _ if method == self.method && now < self.retry_better_at => self.retry_better_at,
            _ => now + RETRY_BETTER,
        };
        self.method = method;
    }

    fn read_by(&self, method: Method) -> Result<Reading, Failure> {
        match method {
            Method::Precise => {
                let answer = sys::ptp_precise(&self.device)?;
                Ok(Reading {
                    source: self.source.clone(),
                    method,
                    reference: Utc(instant(answer.device)?),
                    realtime: Utc(instant(answer.sys_realtime)?),
                    raw: Raw(instant(answer.sys_monoraw)?),
                    bound: PRECISE_BOUND,
                })
            }
            Method::Extended => self.pair(method, sys::ptp_extended),
            _ => self.pair(method, sys::ptp_offset),
        }
    }

    /// Finds the RAW instant of a method that knows only REALTIME, by reading both before and
    /// after: where REALTIME was set in between, the two disagree, and the reading is taken again
    /// rather than placed wrongly.
    fn pair(
        &self,
        method: Method,
        take: fn(&File) -> Result<[[ptp_clock_time; 3]; sys::PTP_SAMPLES], Errno>,
    ) -> Result<Reading, Failure> {
        for _ in 0..PAIRING_TRIES {
            let earlier = Sandwich::tightest(PAIRING_READS);
            let samples = take(&self.device)?;
            let later = Sandwich::tightest(PAIRING_READS);
            let window = tightest_window(&samples)?;
            let Some(bound) = pairing_bound(&earlier, &later, &window) else {
                continue;
            };
            return Ok(Reading {
                source: self.source.clone(),
                method,
                reference: window.reference,
                realtime: window.realtime,
                raw: Raw(window.realtime.0.saturating_sub(later.difference().0)),
                bound,
            });
        }
        Err(Failure::Garbage)
    }
}

enum Failure {
    Errno(Errno),
    Garbage,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

fn refusal(errno: Errno) -> ReadFailure {
    match errno {
        Errno::NODEV | Errno::NXIO | Errno::NOENT => ReadFailure::Absent,
        errno => ReadFailure::Refused(errno.raw_os_error()),
    }
}

fn next_method(method: Method) -> Option<Method> {
    match method {
        Method::Precise => Some(Method::Extended),
        Method::Extended => Some(Method::Offset),
        _ => None,
    }
}

fn instant(time: ptp_clock_time) -> Result<i64, Failure> {
    if time.nsec >= 1_000_000_000 {
        return Err(Failure::Garbage);
    }
    time.sec
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(i64::from(time.nsec)))
        .ok_or(Failure::Garbage)
}

/// A device's time and the system time that belongs to it, wrong by at most `half_width`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    reference: Utc,
    realtime: Utc,
    half_width: Nanos,
}

/// The sample whose two system times are closest together.
fn tightest_window(samples: &[[ptp_clock_time; 3]]) -> Result<Window, Failure> {
    let mut best: Option<Window> = None;
    for &[before, device, after] in samples {
        let (before, after) = (instant(before)?, instant(after)?);
        let width = after.saturating_sub(before);
        // A window that runs backwards was cut through by a step of the clock.
        if width < 0 {
            continue;
        }
        let window = Window {
            reference: Utc(instant(device)?),
            realtime: Utc(before + width / 2),
            half_width: Nanos(width / 2 + 1),
        };
        if best.is_none_or(|best| window.half_width < best.half_width) {
            best = Some(window);
        }
    }
    best.ok_or(Failure::Garbage)
}

/// What a pairing through the two sandwiches can be wrong by, or none where they contradict each
/// other because the clock was set between them.
fn pairing_bound(earlier: &Sandwich, later: &Sandwich, window: &Window) -> Option<Nanos> {
    // A clock slewed by all that adjtimex allows (tick +-10 %) gains this much in between.
    let slewed = Nanos((later.after - earlier.before).0 / 8);
    let disagreement = (later.difference() - earlier.difference()).abs();
    let widths = Nanos(earlier.width().0 / 2 + later.width().0 / 2);
    if disagreement > widths + slewed {
        return None;
    }
    Some(window.half_width + Nanos(later.width().0 / 2) + disagreement)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn time(ns: i64) -> ptp_clock_time {
        ptp_clock_time {
            sec: ns.div_euclid(1_000_000_000),
            nsec: ns.rem_euclid(1_000_000_000) as u32,
            reserved: 0,
        }
    }

    fn sandwich(before: i64, realtime: i64, after: i64) -> Sandwich {
        Sandwich {
            before: Raw(before),
            realtime: Utc(realtime),
            after: Raw(after),
        }
    }

    #[test]
    fn discovery_goes_by_name_and_opens_each_source_once() {
        let root = std::env::temp_dir().join(format!("noonmark-phc-{}", std::process::id()));
        let (class, dev) = (root.join("class"), root.join("dev"));
        fs::create_dir_all(&dev).unwrap();
        for (entry, name) in [
            ("ptp0", "52:54:00:12:34:56"),
            ("ptp1", "KVM virtual PTP"),
            ("ptp2", "KVM virtual PTP"),
            ("ptp3", "hyperv"),
        ] {
            fs::create_dir_all(class.join(entry)).unwrap();
            fs::write(class.join(entry).join("clock_name"), format!("{name}\n")).unwrap();
        }
        symlink("/dev/null", dev.join("ptp1")).unwrap();
        let (found, problems) = discover(
            &class,
            &dev,
            &[Source::Kvm, Source::Hyperv],
            &Probing::default(),
        );
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].source(), &Source::Kvm);
        assert!(found[0].node().ends_with("/dev/ptp1"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("ptp3 (hyperv)"), "{problems:?}");
    }

    #[test]
    fn a_device_without_ptp_ioctls_is_a_refusal_that_keeps_the_errno() {
        let mut phc = Phc {
            source: Source::Kvm,
            name: "KVM virtual PTP".into(),
            node: "/dev/null".into(),
            device: File::open("/dev/null").unwrap(),
            method: Method::Precise,
            retry_better_at: Raw(i64::MAX),
        };
        let refused = ReadFailure::Refused(Errno::NOTTY.raw_os_error());
        assert_eq!(phc.read(Raw(0)), Err(refused));
    }

    #[test]
    fn the_tightest_of_the_samples_is_used_and_bounded_by_half_its_width() {
        let samples = [
            [time(1_000), time(9_000), time(3_000)],
            [time(5_000), time(9_400), time(5_200)],
            [time(8_000), time(9_900), time(7_000)],
        ];
        let window = tightest_window(&samples).ok().unwrap();
        assert_eq!(window.reference, Utc(9_400));
        assert_eq!(window.realtime, Utc(5_100));
        assert_eq!(window.half_width, Nanos(101));
    }

    #[test]
    fn samples_that_all_run_backwards_are_garbage() {
        let samples = [[time(2_000), time(9_000), time(1_000)]];
        assert!(tightest_window(&samples).is_err());
    }

    #[test]
    fn a_time_with_too_many_nanoseconds_is_garbage() {
        let mut broken = time(0);
        broken.nsec = 1_000_000_000;
        assert!(instant(broken).is_err());
    }

    #[test]
    fn a_step_between_the_sandwiches_spoils_the_pairing_and_a_slew_does_not() {
        let window = Window {
            reference: Utc(0),
            realtime: Utc(0),
            half_width: Nanos(50),
        };
        let earlier = sandwich(1_000, 501_050, 1_100);
        let steady = sandwich(11_000, 511_050, 11_100);
        assert_eq!(pairing_bound(&earlier, &steady, &window), Some(Nanos(100)));
        let slewed = sandwich(11_000, 512_000, 11_100);
        assert!(pairing_bound(&earlier, &slewed, &window).is_some());
        let stepped = sandwich(11_000, 600_000, 11_100);
        assert_eq!(pairing_bound(&earlier, &stepped, &window), None);
    }
}
