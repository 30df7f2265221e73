//! The timer that tells when somebody sets the clock.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// The last whole second that the kernel's 64-bit nanoseconds can hold: no clock can be set that
/// far, so that the timer below never runs out by itself.
const NEVER_S: i64 = i64::MAX / 1_000_000_000 - 1;

/// Becomes readable whenever `CLOCK_REALTIME` is set: by `clock_settime`, `settimeofday`,
/// ADJ_SETOFFSET, our own steps included. Changes of frequency and tick don't show.
#[derive(Debug)]
pub struct ClockSetTimer {
    timer: OwnedFd,
}

impl ClockSetTimer {
    /// Makes and arms it.
    ///
    /// # Errors
    /// As `timerfd_create` and `timerfd_settime`.
    pub fn new() -> Result<Self, Errno> {
        let timer = timerfd_create(
            TimerfdClockId::Realtime,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let never = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: NEVER_S,
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(&timer, flags, &never) {
            // The clock was set while the timer was being armed; it is armed all the same.
            Ok(_) | Err(Errno::CANCELED) => Ok(Self { timer }),
            Err(errno) => Err(errno),
        }
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn descriptor(&self) -> &OwnedFd {
        &self.timer
    }

    /// Whether the clock was set since the last call. This arms it for the next set, so it must be
    /// called before the clock is looked at: a set in between then shows at the next call.
    pub fn take(&self) -> bool {
        let mut expirations = [0u8; 8];
        matches!(
            rustix::io::read(&self.timer, &mut expirations),
            Err(Errno::CANCELED)
        )
    }
}
