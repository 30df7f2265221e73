//! Preloaded into the programs of a build, it lets them see the date of twenty years later.
//!
//! It stands in for the C library's functions that tell the date and asks the kernel itself. What
//! depends on deadlines or on the dates of files is as ever. libfaketime does far more, and rustc
//! comes to a standstill under it: its first call looks symbols up, that allocates, and rustc's
//! allocator reads the clock while it sets itself up.
//!
//! `cargo xtask reproduce` compiles it as a library without Rust's own, which would have to be set up.

#![no_std]

use core::ffi::{c_int, c_long, c_void};
use core::panic::PanicInfo;

/// `__NR_clock_gettime` (asm/unistd.h).
#[cfg(target_arch = "x86_64")]
const CLOCK_GETTIME: c_long = 228;
#[cfg(target_arch = "aarch64")]
const CLOCK_GETTIME: c_long = 113;

/// The clocks that tell the date: REALTIME, REALTIME_COARSE, TAI (linux/time.h).
const DATES: [c_int; 3] = [0, 5, 11];

/// Twenty years with their five leap days.
const LATER_S: i64 = (20 * 365 + 5) * 24 * 3600;

/// `struct timespec`; `struct timeval` has microseconds in its second field.
#[repr(C)]
pub struct Time {
    seconds: i64,
    fraction: i64,
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// clock_gettime(2)
#[unsafe(no_mangle)]
pub extern "C" fn clock_gettime(clock: c_int, now: *mut Time) -> c_int {
    // SAFETY: the kernel checks the pointer itself and says EFAULT where it is bad.
    let result = unsafe { syscall(CLOCK_GETTIME, c_long::from(clock), now) };
    if result == 0 && DATES.contains(&clock) {
        // SAFETY: the kernel has just written there.
        unsafe { (*now).seconds = (*now).seconds.wrapping_add(LATER_S) };
    }
    // It is 0 or -1.
    result as c_int
}

/// gettimeofday(2); the time zone has no meaning on Linux.
#[unsafe(no_mangle)]
pub extern "C" fn gettimeofday(now: *mut Time, _zone: *mut c_void) -> c_int {
    let result = clock_gettime(DATES[0], now);
    if result == 0 {
        // SAFETY: it has just been written.
        unsafe { (*now).fraction /= 1000 };
    }
    result
}

/// time(2)
#[unsafe(no_mangle)]
pub extern "C" fn time(now: *mut i64) -> i64 {
    let mut time = Time {
        seconds: -1,
        fraction: 0,
    };
    clock_gettime(DATES[0], &mut time);
    if !now.is_null() {
        // SAFETY: a caller that passes a pointer passes one to a time_t.
        unsafe { *now = time.seconds };
    }
    time.seconds
}

/// Nothing here panics, but a library without Rust's own must say what would happen.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
