//! What a VMClock page says (include/uapi/linux/vmclock-abi.h), and on which scale the PHC that the
//! kernel makes of it counts.
//!
//! The page gives a time at a counter value, with a scale: UTC or TAI. `ptp_vmclock` hands out UTC up
//! to a change of 2026, TAI from then on, and nothing tells which of the two a kernel does. They are 37 s
//! apart, so it is found out: the page's own time, carried on to the present by the counter, lies
//! beside what the PHC gives at the same moment. The sign of the page's TAI offset is not relied on
//! either: hypervisors and kernels have differed on it, and TAI is ahead of UTC.

use std::sync::atomic::{Ordering, fence};

use noonmark_contract::host_clock::{HostClock, Leap, NOT_KEPT};
use noonmark_contract::units::{Nanos, Utc};
use noonmark_linux::sys::MappedPage;

/// How often a page that is being written is read again. A hypervisor writes it in well under a
/// microsecond, but may be interrupted while doing so.
const TRIES: usize = 1_000;

/// How far the page's time, carried on, may be from the PHC's for the two to be on the same scale:
/// far above what lies between two readings, far below the 37 s between the scales.
const SAME: Nanos = Nanos::from_secs(5);

/// `VMCLOCK_MAGIC`, "VCLK".
const MAGIC: u64 = 0x4b4c_4356;

/// `VMCLOCK_COUNTER_X86_TSC`.
const COUNTER_TSC: u8 = 1;

const TIME_UTC: u8 = 0;
const TIME_TAI: u8 = 1;

/// `VMCLOCK_LEAP_PRE_POS` and `VMCLOCK_LEAP_PRE_NEG`: at the end of the month.
const LEAP_PRE_POS: u8 = 1;
const LEAP_PRE_NEG: u8 = 2;

const STATUS_SYNCHRONIZED: u8 = 2;
const STATUS_FREERUNNING: u8 = 3;

const FLAG_TAI_OFFSET_VALID: u64 = 1 << 0;
const FLAG_TIME_ESTERROR_VALID: u64 = 1 << 5;
const FLAG_TIME_MAXERROR_VALID: u64 = 1 << 6;
const FLAG_NOTIFICATION_PRESENT: u64 = 1 << 9;

/// Where the fields are, in bytes.
mod at {
    /// `magic` and `size`.
    pub const MAGIC: usize = 0;
    /// `version`, `counter_id`, `time_type` and `seq_count`.
    pub const VERSION: usize = 8;
    pub const SEQUENCE: usize = 12;
    pub const DISRUPTION_MARKER: usize = 16;
    pub const FLAGS: usize = 24;
    /// `pad`, `clock_status`, smearing hint, `tai_offset_sec`, leap indicator, period shift: one word.
    pub const STATUS: usize = 32;
    pub const COUNTER_VALUE: usize = 40;
    pub const COUNTER_PERIOD: usize = 48;
    pub const TIME_SEC: usize = 72;
    pub const TIME_FRAC: usize = 80;
    pub const TIME_END: usize = 88;
    pub const ESTERROR: usize = 88;
    pub const MAXERROR: usize = 96;
}

/// One consistent look at the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Changes when the counter was disrupted: the machine was restored or migrated.
    pub disruption_marker: u64,
    flags: u64,
    counter_id: u8,
    time_type: u8,
    status: u8,
    tai_offset_s: i16,
    period_shift: u8,
    counter_value: u64,
    /// A counter's tick in 2^-(64 + `period_shift`) s.
    period: u64,
    time_s: u64,
    /// In 2^-64 s.
    time_frac: u64,
    leap: u8,
    esterror_ns: u64,
    maxerror_ns: u64,
}

/// Why the PHC of a VMClock can't be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// The device does not say that its time is right.
    #[error("its clock_status is {0}, neither synchronized nor free running")]
    Status(u8),
    /// Monotonic, smeared, or unknown.
    #[error("its time_type is {0}, neither UTC nor TAI")]
    Type(u8),
    /// Not the processor's counter, so that the page's time can't be carried on.
    #[error("its counter_id is {0}, not the TSC")]
    Counter(u8),
    /// TAI without its offset from UTC.
    #[error("its TAI offset is not marked as valid")]
    NoTaiOffset,
    /// The PHC is there, the page is not.
    #[error("there is no /dev/vmclock0 to tell whether its PHC counts UTC or TAI")]
    NoPage,
    /// The page is being written all the time.
    #[error("its page is being written all the time")]
    Busy,
    /// The PHC is on no scale that the page allows.
    #[error("its PHC is {0} from the page's own time, which is neither UTC nor TAI")]
    Apart(Nanos),
}

/// The disruption marker as it is now: one word, which needs no consistency with others.
#[must_use]
pub fn disruption_marker(page: &MappedPage) -> u64 {
    page.word(at::DISRUPTION_MARKER)
}

impl Page {
    /// Reads the page; none where it is no VMClock's of version 1, or is never left alone.
    #[must_use]
    pub fn read(page: &MappedPage) -> Option<Self> {
        let magic_and_size = page.word(at::MAGIC);
        let size = (magic_and_size >> 32) as usize;
        let version = page.word(at::VERSION) as u16;
        if magic_and_size & 0xffff_ffff != MAGIC || version != 1 || size < at::STATUS {
            return None;
        }
        // The sequence is odd while the page is being written.
        let sequence = || (page.word(at::VERSION) >> (8 * (at::SEQUENCE - at::VERSION))) as u32;
        for _ in 0..TRIES {
            let before = sequence();
            fence(Ordering::Acquire);
            let read = Self::fields(page, size);
            fence(Ordering::Acquire);
            if before % 2 == 0 && sequence() == before {
                return Some(read);
            }
        }
        None
    }

    fn fields(page: &MappedPage, size: usize) -> Self {
        let head = page.word(at::VERSION).to_le_bytes();
        // A field beyond the size that the device states is not there.
        let word = |at: usize| if at + 8 <= size { page.word(at) } else { 0 };
        let state = word(at::STATUS).to_le_bytes();
        let has_time = size >= at::TIME_END;
        Self {
            disruption_marker: page.word(at::DISRUPTION_MARKER),
            flags: page.word(at::FLAGS),
            counter_id: head[2],
            time_type: head[3],
            status: if has_time { state[2] } else { 0 },
            tai_offset_s: i16::from_le_bytes([state[4], state[5]]),
            period_shift: state[7],
            counter_value: word(at::COUNTER_VALUE),
            period: word(at::COUNTER_PERIOD),
            time_s: word(at::TIME_SEC),
            time_frac: word(at::TIME_FRAC),
            leap: state[6],
            esterror_ns: word(at::ESTERROR),
            maxerror_ns: word(at::MAXERROR),
        }
    }

    /// Whether the device notifies of each change, so that `poll` is worth while.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.flags & FLAG_NOTIFICATION_PRESENT != 0
    }

    /// What the device says of the host's clock; none where it states no largest error. A clock that
    /// it doesn't vouch for is one that nobody keeps.
    #[must_use]
    pub fn host_clock(&self) -> Option<HostClock> {
        if self.flags & FLAG_TIME_MAXERROR_VALID == 0 {
            return None;
        }
        let is_kept = matches!(self.status, STATUS_SYNCHRONIZED | STATUS_FREERUNNING);
        let span = |ns: u64| Nanos(i64::try_from(ns).unwrap_or(i64::MAX));
        let has = |flag| self.flags & flag != 0;
        let tai_offset = i32::from(self.tai_offset_s).abs();
        Some(HostClock {
            maxerror_ns: if is_kept {
                span(self.maxerror_ns)
            } else {
                NOT_KEPT
            },
            esterror_ns: if has(FLAG_TIME_ESTERROR_VALID) {
                span(self.esterror_ns)
            } else {
                span(self.maxerror_ns)
            },
            unsync: self.status != STATUS_SYNCHRONIZED,
            tai_offset_s: if has(FLAG_TAI_OFFSET_VALID) {
                tai_offset
            } else {
                0
            },
            leap: match self.leap {
                LEAP_PRE_POS => Leap::Insert,
                LEAP_PRE_NEG => Leap::Delete,
                _ => Leap::None,
            },
        })
    }

    /// UTC of what the PHC gave when the counter stood at `counter`, give or take a second.
    ///
    /// # Errors
    /// [`ScaleError`].
    pub fn utc(&self, phc: Nanos, counter: u64) -> Result<Utc, ScaleError> {
        if !matches!(self.status, STATUS_SYNCHRONIZED | STATUS_FREERUNNING) {
            return Err(ScaleError::Status(self.status));
        }
        if self.counter_id != COUNTER_TSC {
            return Err(ScaleError::Counter(self.counter_id));
        }
        let tai_offset = Nanos::from_secs(i64::from(self.tai_offset_s)).abs();
        let has_offset = self.flags & FLAG_TAI_OFFSET_VALID != 0;
        let page_ahead = match self.time_type {
            TIME_UTC => Nanos::ZERO,
            TIME_TAI if has_offset => tai_offset,
            TIME_TAI => return Err(ScaleError::NoTaiOffset),
            other => return Err(ScaleError::Type(other)),
        };
        let apart = phc - self.time_at(counter);
        let scales = [Nanos::ZERO, tai_offset, -tai_offset];
        let known = if has_offset {
            &scales[..]
        } else {
            &scales[..1]
        };
        let phc_ahead = known
            .iter()
            .find(|scale| (apart - **scale).abs() <= SAME)
            .ok_or(ScaleError::Apart(apart))?;
        Ok(Utc((phc - *phc_ahead - page_ahead).0))
    }

    /// The page's time, on its own scale, when the counter stands at `counter`.
    fn time_at(&self, counter: u64) -> Nanos {
        let elapsed = i128::from(counter.wrapping_sub(self.counter_value).cast_signed());
        let tick = i128::from(self.period);
        // Seconds in 2^-64. The product of 63 and 64 bits fits, and the shift makes it smaller.
        let moved = elapsed.saturating_mul(tick) >> self.period_shift.min(127);
        let fraction = moved.saturating_add(i128::from(self.time_frac));
        let seconds = i128::from(self.time_s) + (fraction >> 64);
        let ns = ((fraction & i128::from(u64::MAX)) * 1_000_000_000) >> 64;
        let total = seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Nanos(i64::try_from(total).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// 2026-01-01T00:00:00Z, where TAI is 37 s further.
    const UTC_S: u64 = 1_767_225_600;
    const TAI_AHEAD: Nanos = Nanos::from_secs(37);
    const GHZ: u64 = 1_000_000_000;

    /// The bytes of a page whose counter, of 1 GHz, stood at 5 s at [`UTC_S`] UTC.
    pub fn bytes(time_type: u8, tai_offset_s: i16, flags: u64) -> Vec<u8> {
        let mut page = vec![0; 4096];
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(at::MAGIC, &(MAGIC as u32).to_le_bytes());
        put(at::MAGIC + 4, &4096_u32.to_le_bytes());
        put(at::VERSION, &1_u16.to_le_bytes());
        put(10, &[COUNTER_TSC, time_type]);
        put(at::SEQUENCE, &6_u32.to_le_bytes());
        put(at::DISRUPTION_MARKER, &42_u64.to_le_bytes());
        put(at::FLAGS, &flags.to_le_bytes());
        put(at::STATUS + 2, &[STATUS_SYNCHRONIZED]);
        put(at::STATUS + 4, &tai_offset_s.to_le_bytes());
        put(at::COUNTER_VALUE, &(5 * GHZ).to_le_bytes());
        let period = u64::try_from((1_u128 << 64) / u128::from(GHZ)).unwrap();
        put(at::COUNTER_PERIOD, &period.to_le_bytes());
        let ahead = if time_type == TIME_TAI { 37 } else { 0 };
        put(at::TIME_SEC, &(UTC_S + ahead).to_le_bytes());
        page
    }

    pub fn map(bytes: &[u8]) -> MappedPage {
        let mut file = tempfile();
        file.write_all(bytes).unwrap();
        MappedPage::of(&file).unwrap()
    }

    fn tempfile() -> std::fs::File {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        rustix::fs::memfd_create("vmclock", flags).unwrap().into()
    }

    fn page(time_type: u8, tai_offset_s: i16, flags: u64) -> Page {
        Page::read(&map(&bytes(time_type, tai_offset_s, flags))).unwrap()
    }

    /// What UTC comes of a PHC that is `ahead` of UTC, 3 s after the page was written.
    fn error_of(page: &Page, ahead: Nanos) -> Result<Nanos, ScaleError> {
        let utc = Utc(UTC_S.cast_signed() * 1_000_000_000) + Nanos::from_secs(3);
        let phc = Nanos(utc.0) + ahead;
        page.utc(phc, 8 * GHZ).map(|found| found - utc)
    }

    #[test]
    fn utc_comes_out_whatever_scale_kernel_and_device_use_and_whatever_sign_they_think_right() {
        for (time_type, tai_offset_s) in [(0, 37), (0, -37), (1, 37), (1, -37)] {
            let page = page(time_type, tai_offset_s, FLAG_TAI_OFFSET_VALID);
            for ahead in [Nanos::ZERO, TAI_AHEAD] {
                assert_eq!(error_of(&page, ahead), Ok(Nanos::ZERO), "{page:?} {ahead}");
            }
        }
    }

    #[test]
    fn a_time_that_may_be_37_s_off_is_refused_and_never_guessed() {
        let bare = page(TIME_UTC, 0, 0);
        assert_eq!(error_of(&bare, Nanos::ZERO), Ok(Nanos::ZERO));
        let apart = error_of(&bare, TAI_AHEAD);
        assert!(matches!(apart, Err(ScaleError::Apart(_))), "{apart:?}");
        let no_way = page(TIME_TAI, 37, 0);
        assert_eq!(error_of(&no_way, TAI_AHEAD), Err(ScaleError::NoTaiOffset));
        let monotonic = page(2, 37, FLAG_TAI_OFFSET_VALID);
        assert_eq!(error_of(&monotonic, Nanos::ZERO), Err(ScaleError::Type(2)));
    }

    #[test]
    fn a_device_that_does_not_vouch_for_its_time_is_refused() {
        let mut unknown = bytes(TIME_UTC, 37, FLAG_TAI_OFFSET_VALID);
        unknown[at::STATUS + 2] = 0;
        let unknown = Page::read(&map(&unknown)).unwrap();
        assert_eq!(error_of(&unknown, Nanos::ZERO), Err(ScaleError::Status(0)));
    }

    #[test]
    fn the_hosts_error_counts_where_the_device_states_it_and_vouches_for_its_time() {
        assert_eq!(page(TIME_UTC, 37, 0).host_clock(), None);
        let flags = FLAG_TIME_MAXERROR_VALID | FLAG_TAI_OFFSET_VALID;
        let mut stated = bytes(TIME_UTC, -37, flags);
        stated[at::MAXERROR..at::MAXERROR + 8].copy_from_slice(&2_500_u64.to_le_bytes());
        stated[at::STATUS + 6] = LEAP_PRE_POS;
        let clock = Page::read(&map(&stated)).unwrap().host_clock().unwrap();
        assert_eq!((clock.maxerror_ns, clock.tai_offset_s), (Nanos(2_500), 37));
        assert!(clock.is_kept() && !clock.unsync && clock.leap == Leap::Insert);
        stated[at::STATUS + 2] = 4;
        let clock = Page::read(&map(&stated)).unwrap().host_clock().unwrap();
        assert!(!clock.is_kept());
    }

    #[test]
    fn fields_beyond_the_stated_size_are_not_there() {
        let mut short = bytes(TIME_UTC, 37, FLAG_TAI_OFFSET_VALID);
        short[at::MAGIC + 4..at::VERSION].copy_from_slice(&32_u32.to_le_bytes());
        let page = Page::read(&map(&short)).unwrap();
        assert_eq!(page.disruption_marker, 42);
        assert_eq!(error_of(&page, Nanos::ZERO), Err(ScaleError::Status(0)));
    }

    #[test]
    fn what_is_no_vmclock_or_always_being_written_is_not_read() {
        let good = bytes(TIME_UTC, 37, 0);
        for (at, value) in [(at::MAGIC, 0), (at::VERSION, 2), (at::SEQUENCE, 7)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Page::read(&map(&bad)), None, "byte {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_page_upsets_the_reader(
            words in proptest::collection::vec(proptest::num::u64::ANY, 12),
            phc: i64,
            counter: u64,
        ) {
            let mut random = bytes(TIME_UTC, 37, 1);
            for (index, word) in words.iter().enumerate().skip(2) {
                random[8 * index..8 * index + 8].copy_from_slice(&word.to_le_bytes());
            }
            if let Some(page) = Page::read(&map(&random)) {
                let _ = page.utc(Nanos(phc), counter);
            }
        }
    }
}
