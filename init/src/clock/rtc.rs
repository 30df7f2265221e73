//! The battery-backed clock, `/dev/rtc0`: the last rung, good to a second.

use std::fs::File;

use noonmark_contract::sample::{Method, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Utc};
use noonmark_linux::clocks::Sandwich;
use noonmark_linux::sys::{self, RtcTime};
use rustix::io::Errno;

/// Its device file.
pub const DEVICE: &str = "/dev/rtc0";

/// Reads the RTC once, without waiting for the second's edge.
///
/// A shown second S means that S to S + 1 s has passed on the RTC. A hypervisor starts its RTC at a
/// whole second of host time rounded down (QEMU: `hw/rtc/mc146818rtc.c`), so that the host's time
/// is up to one second further still. The middle of the two seconds is the estimate, and the bound
/// covers both; a wait for the edge would take only the first of the two uncertainties away.
///
/// # Errors
/// `Absent` where there is no RTC, `Refused` with the errno where it does not answer, `Garbage`
/// where what it shows is no date.
pub fn read() -> Result<Reading, ReadFailure> {
    let device = File::open(DEVICE).map_err(|_| ReadFailure::Absent)?;
    let earlier = Sandwich::read();
    let shown = sys::rtc_read(&device).map_err(refusal)?;
    let later = Sandwich::read();
    let reference = utc(shown).ok_or(ReadFailure::Garbage)?;
    Ok(Reading {
        source: Source::Rtc,
        method: Method::Rtc,
        reference: reference + Nanos::from_secs(1),
        realtime: later.realtime,
        raw: later.raw(),
        bound: Nanos::from_secs(1) + (later.after - earlier.before),
    })
}

fn refusal(errno: Errno) -> ReadFailure {
    match errno {
        Errno::INVAL => ReadFailure::Garbage,
        Errno::NODEV | Errno::NXIO => ReadFailure::Absent,
        errno => ReadFailure::Refused(errno.raw_os_error()),
    }
}

/// A broken-down UTC date as an instant; none where a field is out of its range.
fn utc(time: RtcTime) -> Option<Utc> {
    let in_range = (0..=60).contains(&time.sec)
        && (0..60).contains(&time.min)
        && (0..24).contains(&time.hour)
        && (1..=31).contains(&time.mday)
        && (0..12).contains(&time.mon)
        && (70..=361).contains(&time.year);
    if !in_range {
        return None;
    }
    let days = days_since_1970(1900 + i64::from(time.year), time.mon as usize, time.mday);
    let seconds =
        ((days * 24 + i64::from(time.hour)) * 60 + i64::from(time.min)) * 60 + i64::from(time.sec);
    Some(Utc(seconds * 1_000_000_000))
}

/// Days of the proleptic Gregorian calendar; `month` from 0, `day` from 1.
fn days_since_1970(year: i64, month: usize, day: i32) -> i64 {
    const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let leap_days_before = |year: i64| {
        let last = year - 1;
        last / 4 - last / 100 + last / 400
    };
    (year - 1970) * 365
        + (leap_days_before(year) - leap_days_before(1970))
        + BEFORE_MONTH[month]
        + i64::from(leap && month >= 2)
        + i64::from(day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: i32, mon: i32, mday: i32, hour: i32, min: i32, sec: i32) -> RtcTime {
        let mut time = RtcTime::default();
        (time.year, time.mon, time.mday) = (year - 1900, mon - 1, mday);
        (time.hour, time.min, time.sec) = (hour, min, sec);
        time
    }

    #[test]
    fn dates_become_instants_across_leap_years_and_centuries() {
        for (time, seconds) in [
            (date(1970, 1, 1, 0, 0, 0), 0),
            (date(2000, 2, 29, 12, 0, 0), 951_825_600),
            (date(2000, 3, 1, 0, 0, 0), 951_868_800),
            (date(2023, 3, 1, 12, 30, 0), 1_677_673_800),
            (date(2038, 1, 19, 3, 14, 8), 2_147_483_648),
            (date(2100, 3, 1, 0, 0, 0), 4_107_542_400),
        ] {
            assert_eq!(utc(time), Some(Utc(seconds * 1_000_000_000)), "{time:?}");
        }
    }

    #[test]
    fn a_field_out_of_range_is_no_date() {
        for time in [
            date(2026, 13, 1, 0, 0, 0),
            date(2026, 1, 32, 0, 0, 0),
            date(2026, 1, 0, 0, 0, 0),
            date(2026, 1, 1, 24, 0, 0),
            date(1969, 12, 31, 0, 0, 0),
            date(2026, 1, 1, 0, -1, 0),
        ] {
            assert_eq!(utc(time), None, "{time:?}");
        }
    }
}
