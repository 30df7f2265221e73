//! What this host's kernel says of its own clock.
#![allow(
    unsafe_code,
    reason = "adjtimex has no safe wrapper that gives maxerror"
)]

use std::mem;

use noonmark_contract::host_clock::{HostClock, Leap};
use noonmark_contract::units::Nanos;

/// adjtimex(2), which changes nothing here and needs no right; none where the kernel refuses it.
#[must_use]
pub fn read() -> Option<HostClock> {
    // SAFETY: `timex` is plain integers, for which zero is a valid value.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: with `modes` 0 the kernel only writes the one `timex`, which outlives the call.
    if unsafe { libc::adjtimex(&raw mut timex) } < 0 {
        return None;
    }
    let microseconds = |us: i64| Nanos::from_micros(us.max(0));
    let has = |flag| timex.status & flag != 0;
    Some(HostClock {
        maxerror_ns: microseconds(timex.maxerror),
        esterror_ns: microseconds(timex.esterror),
        unsync: has(libc::STA_UNSYNC),
        tai_offset_s: timex.tai,
        leap: match (has(libc::STA_INS), has(libc::STA_DEL)) {
            (true, false) => Leap::Insert,
            (false, true) => Leap::Delete,
            _ => Leap::None,
        },
    })
}

#[cfg(test)]
mod tests {
    use noonmark_contract::host_clock::NOT_KEPT;

    use super::*;

    #[test]
    fn this_kernel_says_something_of_its_clock() {
        let clock = read().expect("adjtimex needs no right to read");
        assert!(clock.maxerror_ns <= NOT_KEPT, "{clock:?}");
        assert!(clock.is_kept() || clock.unsync, "{clock:?}");
    }
}
