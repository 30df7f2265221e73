//! The system calls that have no safe wrapper elsewhere. All `unsafe` of the guest's programs is
//! here, and nothing else: what the calls mean for the clock is decided by their callers.
#![allow(
    unsafe_code,
    reason = "ioctl, mmap, adjtimex, signalfd, sched_setscheduler, interface flags, packet sockets, netlink groups, signal handlers, the processor's counter and the child's side of fork have no safe wrapper"
)]

pub mod attempt;
pub mod child;
pub mod fatal;
mod page;

use std::fs::File;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::ptp_clock_time;
use rustix::io::Errno;
use rustix::ioctl::{Getter, NoArg, Opcode, Setter, Updater, ioctl, opcode};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub use page::{MappedPage, SharedPage};

/// How many samples one EXTENDED or OFFSET call takes: the tightest of a few is as good as the
/// tightest of many, and each costs an access to the device.
pub const PTP_SAMPLES: usize = 5;

/// `struct rtc_time` (include/uapi/linux/rtc.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtcTime {
    /// Seconds, 0..=59.
    pub sec: i32,
    /// Minutes, 0..=59.
    pub min: i32,
    /// Hours, 0..=23.
    pub hour: i32,
    /// Day of the month, 1..=31.
    pub mday: i32,
    /// Month, 0..=11.
    pub mon: i32,
    /// Years since 1900.
    pub year: i32,
    unused: [i32; 3],
}

/// `struct ifreq` (include/uapi/linux/if.h) with `ifr_flags`.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    /// The rest of the union.
    unused: [u8; 22],
}

const _: () = assert!(mem::size_of::<InterfaceFlags>() == mem::size_of::<libc::ifreq>());

/// include/uapi/linux/sockios.h; older than the numbers that encode a size.
const SIOCSIFFLAGS: Opcode = 0x8914;

// The plain requests, not their "2" twins of kernel 5.4: every kernel has them, and they differ
// only in that the twins insist on zeroed reserved fields, which ours are.
const PTP_SYS_OFFSET: Opcode = libc::PTP_SYS_OFFSET as Opcode;
const PTP_SYS_OFFSET_PRECISE: Opcode = libc::PTP_SYS_OFFSET_PRECISE as Opcode;
const PTP_SYS_OFFSET_EXTENDED: Opcode = libc::PTP_SYS_OFFSET_EXTENDED as Opcode;
const RTC_RD_TIME: Opcode = opcode::read::<RtcTime>(b'p', 9);
// include/uapi/linux/fs.h; what they are said to read and write, neither does (fs/ioctl.c).
const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);
const WDIOC_SETTIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);

/// `PTP_SYS_OFFSET_PRECISE`. Errors: EOPNOTSUPP where the driver can't, ENODEV where the device's
/// counter is not the current clocksource.
pub fn ptp_precise(device: &File) -> Result<libc::ptp_sys_offset_precise, Errno> {
    // SAFETY: the structure is plain integers, for which zero is a valid value.
    let mut request: libc::ptp_sys_offset_precise = unsafe { mem::zeroed() };
    // SAFETY: the opcode encodes this structure's size and direction, the kernel writes within it,
    // and it lives until the call returns.
    unsafe {
        ioctl(
            device,
            Updater::<PTP_SYS_OFFSET_PRECISE, _>::new(&mut request),
        )?;
    }
    Ok(request)
}

/// `PTP_SYS_OFFSET_EXTENDED`: each sample is system time before, device time, system time after.
pub fn ptp_extended(device: &File) -> Result<[[ptp_clock_time; 3]; PTP_SAMPLES], Errno> {
    // SAFETY: as in `ptp_precise`.
    let mut request: libc::ptp_sys_offset_extended = unsafe { mem::zeroed() };
    request.n_samples = PTP_SAMPLES as u32;
    // SAFETY: as in `ptp_precise`; `n_samples` is within the array's length.
    unsafe {
        ioctl(
            device,
            Updater::<PTP_SYS_OFFSET_EXTENDED, _>::new(&mut request),
        )?;
    }
    Ok(std::array::from_fn(|i| request.ts[i]))
}

/// `PTP_SYS_OFFSET`, in the shape of [`ptp_extended`]: the system time after one sample is the
/// system time before the next.
pub fn ptp_offset(device: &File) -> Result<[[ptp_clock_time; 3]; PTP_SAMPLES], Errno> {
    // SAFETY: as in `ptp_precise`.
    let mut request: libc::ptp_sys_offset = unsafe { mem::zeroed() };
    request.n_samples = PTP_SAMPLES as u32;
    // SAFETY: as in `ptp_precise`. The opcode says "write" only, but the kernel answers into the
    // same structure (drivers/ptp/ptp_chardev.c), which `Updater` treats as mutable.
    unsafe {
        ioctl(device, Updater::<PTP_SYS_OFFSET, _>::new(&mut request))?;
    }
    let ts = request.ts;
    Ok(std::array::from_fn(|i| {
        [ts[2 * i], ts[2 * i + 1], ts[2 * i + 2]]
    }))
}

/// `RTC_RD_TIME`: the RTC's broken-down time.
pub fn rtc_read(device: &File) -> Result<RtcTime, Errno> {
    // SAFETY: the opcode encodes the structure that the kernel fills.
    unsafe { ioctl(device, Getter::<RTC_RD_TIME, RtcTime>::new()) }
}

/// `WDIOC_SETTIMEOUT`: how long a watchdog waits, seconds; gives what the driver made of it.
pub fn watchdog_set_timeout(device: &File, mut timeout_s: i32) -> Result<i32, Errno> {
    // SAFETY: the opcode encodes an `int`, which the kernel reads and writes, and which lives until the
    // call returns.
    unsafe {
        ioctl(device, Updater::<WDIOC_SETTIMEOUT, _>::new(&mut timeout_s))?;
    }
    Ok(timeout_s)
}

/// `FIFREEZE`: writes out the file system of this file, and has all that write to it wait. Needs
/// CAP_SYS_ADMIN. Errors: EOPNOTSUPP where its kind can't be frozen, EBUSY where it is frozen already.
pub fn freeze_file_system(file: &File) -> Result<(), Errno> {
    // SAFETY: the kernel looks at no argument of this call (fs/ioctl.c, `ioctl_fsfreeze`).
    unsafe { ioctl(file, NoArg::<FIFREEZE>::new()) }
}

/// `FITHAW`: lets them go on. Errors: EINVAL where it is not frozen.
pub fn thaw_file_system(file: &File) -> Result<(), Errno> {
    // SAFETY: nor at one of this call (`ioctl_fsthaw`).
    unsafe { ioctl(file, NoArg::<FITHAW>::new()) }
}

/// What `adjtimex` is asked to change; the fields are its own (include/uapi/linux/timex.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adjust {
    /// Added to the clock, whole seconds rounded down and nanoseconds 0..1e9.
    pub set_offset: Option<(i64, i64)>,
    /// `freq`: ppm with 16 fractional bits, and `tick`: microseconds.
    pub frequency: Option<(i64, i64)>,
    /// `maxerror` and `esterror` in microseconds.
    pub error_us: Option<(i64, i64)>,
    /// `status`: STA_UNSYNC set, or none of its flags. Goes with [`Adjust::error_us`].
    pub unsync: bool,
    /// TAI minus UTC in seconds, above 0.
    pub tai_offset_s: Option<i32>,
}

/// `adjtimex` on `CLOCK_REALTIME`; gives back `freq` and `tick` as they are afterwards.
pub fn adjtimex(adjust: Adjust) -> Result<(i64, i64), Errno> {
    // SAFETY: `timex` is plain integers, for which zero is a valid value.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    if let Some((seconds, nanoseconds)) = adjust.set_offset {
        timex.modes |= libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        timex.time.tv_sec = seconds;
        timex.time.tv_usec = nanoseconds;
    }
    if let Some((freq, tick)) = adjust.frequency {
        timex.modes |= libc::ADJ_FREQUENCY | libc::ADJ_TICK;
        timex.freq = freq;
        timex.tick = tick;
    }
    if let Some((max, estimate)) = adjust.error_us {
        timex.modes |= libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
        timex.status = if adjust.unsync { libc::STA_UNSYNC } else { 0 };
        timex.maxerror = max;
        timex.esterror = estimate;
    }
    if let Some(offset) = adjust.tai_offset_s {
        timex.modes |= libc::ADJ_TAI;
        timex.constant = offset.into();
    }
    // SAFETY: the kernel reads and writes one `timex`, which outlives the call.
    if unsafe { libc::adjtimex(&mut timex) } < 0 {
        return Err(last_errno());
    }
    Ok((timex.freq, timex.tick))
}

/// `adjtime`: has the kernel slew `CLOCK_REALTIME` by so many microseconds, at 500 ppm
/// (`ADJ_OFFSET_SINGLESHOT`, kernel/time/ntp.c).
///
/// # Errors
/// The caller has no CAP_SYS_TIME.
pub fn adjtime(by_us: i64) -> Result<(), Errno> {
    // SAFETY: `timex` is plain integers, for which zero is a valid value.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    timex.modes = libc::ADJ_OFFSET_SINGLESHOT;
    timex.offset = by_us;
    // SAFETY: the kernel reads and writes one `timex`, which outlives the call.
    if unsafe { libc::adjtimex(&mut timex) } < 0 {
        return Err(last_errno());
    }
    Ok(())
}

/// What the kernel says of its clock's error: `maxerror` in microseconds, whether STA_UNSYNC is set, and
/// TAI minus UTC in seconds.
pub fn clock_error() -> Result<(i64, bool, i32), Errno> {
    // SAFETY: as in `adjtimex`, of which this is the call that changes nothing.
    let (timex, result) = unsafe {
        let mut timex: libc::timex = mem::zeroed();
        let result = libc::adjtimex(&raw mut timex);
        (timex, result)
    };
    if result < 0 {
        return Err(last_errno());
    }
    let unsync = timex.status & libc::STA_UNSYNC != 0;
    Ok((timex.maxerror, unsync, timex.tai))
}

/// The processor's counter, the TSC: what `VMCLOCK_COUNTER_X86_TSC` counts.
#[must_use]
pub fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, it touches no memory, and nothing in a
    // noonmark guest forbids it to programs (CR4.TSD).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Brings the loopback interface up, whereupon the kernel gives it 127.0.0.1/8, and ::1/128 where it
/// has IPv6. Needs CAP_NET_ADMIN. Errors: EAFNOSUPPORT where the kernel has no network.
pub fn loopback_up() -> Result<(), Errno> {
    interface_up("lo")
}

/// Brings an interface up. Needs CAP_NET_ADMIN.
///
/// # Errors
/// ENODEV where there is none of this name; EAFNOSUPPORT where the kernel has no network.
pub fn interface_up(interface: &str) -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    // The name ends with a zero.
    if interface.len() >= name.len() {
        return Err(Errno::NODEV);
    }
    name[..interface.len()].copy_from_slice(interface.as_bytes());
    let request = InterfaceFlags {
        name,
        flags: libc::IFF_UP as i16,
        unused: [0; 22],
    };
    // SAFETY: the kernel reads one `struct ifreq`, which this is in size and layout, and keeps no
    // pointer to it.
    unsafe { ioctl(&socket, Setter::<SIOCSIFFLAGS, _>::new(request)) }
}

/// A socket that sends and receives whole Ethernet frames on one interface (packet(7));
/// non-blocking. Needs CAP_NET_RAW.
pub fn packet_socket(interface_index: u32) -> Result<OwnedFd, Errno> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: `socket` takes no pointer and returns a new descriptor that nobody else owns;
    // `sockaddr_ll` is plain integers, for which zero is a valid value, and `bind` reads no more of
    // it than the length that it is given.
    unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0 receives nothing until the socket is bound to its interface.
        let descriptor = match libc::socket(libc::AF_PACKET, kind, 0) {
            -1 => return Err(last_errno()),
            descriptor => OwnedFd::from_raw_fd(descriptor),
        };
        let mut address: libc::sockaddr_ll = mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = i32::try_from(interface_index).map_err(|_| Errno::NODEV)?;
        let length = mem::size_of_val(&address) as libc::socklen_t;
        if libc::bind(descriptor.as_raw_fd(), (&raw const address).cast(), length) != 0 {
            return Err(last_errno());
        }
        Ok(descriptor)
    }
}

/// Blocks these signals for the process and makes a non-blocking descriptor that reads them.
pub fn signalfd(signals: &[i32]) -> Result<OwnedFd, Errno> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set before anything reads it; the other calls take a
    // valid pointer to it, and `signalfd` returns a new descriptor that nobody else owns.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
            return Err(last_errno());
        }
        match libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(last_errno()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Runs this process by SCHED_FIFO at `priority` (1..=99). Its children start as ordinary ones.
pub fn schedule_fifo(priority: i32) -> Result<(), Errno> {
    // SAFETY: `sched_param` is plain integers. musl's own wrapper only fails with ENOSYS, so the
    // system call is made directly; the kernel reads one `sched_param` and keeps no pointer.
    let result = unsafe {
        let mut param: libc::sched_param = mem::zeroed();
        param.sched_priority = priority;
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const param,
        )
    };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Has a netlink socket hear a multicast group; by its number, which bind(2) takes only up to 32.
pub fn join_netlink_group(socket: &OwnedFd, group: u32) -> Result<(), Errno> {
    // SAFETY: the kernel reads one `u32` at the pointer, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_ADD_MEMBERSHIP,
            (&raw const group).cast(),
            mem::size_of::<u32>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

/// Runs this process as an ordinary one again.
pub fn schedule_ordinary() -> Result<(), Errno> {
    // SAFETY: as in `schedule_fifo`; the priority of an ordinary process is 0.
    let result = unsafe {
        let param: libc::sched_param = mem::zeroed();
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            libc::SCHED_OTHER,
            &raw const param,
        )
    };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Undoes for a child what [`signalfd`] did to this process: a mask survives exec.
fn unblock_signals() -> Result<(), Errno> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set before `sigprocmask` reads it.
    let result = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
