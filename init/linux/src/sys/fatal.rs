//! Fatal signals as an end that the process chooses: what it does itself, by an access to memory that it
//! hasn't, by `abort` after a panic or a failed allocation, or by running out of stack.

use std::sync::OnceLock;

use libc::c_int;
use rustix::io::Errno;

use super::last_errno;

/// What the kernel sends a process for its own fault, and what `abort` raises.
const SIGNALS: [c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
];

/// `SI_TKILL` (include/uapi/asm-generic/siginfo.h): how `abort` raises its signal. What the kernel sends
/// for a fault is above 0, which no process can claim for a signal to another.
const SI_TKILL: c_int = -6;

/// The handler's stack: the ordinary one may be what is used up.
const STACK_BYTES: usize = 64 * 1024;

static END: OnceLock<fn(c_int) -> !> = OnceLock::new();

/// Has `end` run when this process does something fatal, with the signal's number; a signal of another
/// process has no effect. Of this process's other threads each that has no signal stack of its own uses
/// its ordinary one, as the standard library's threads need not. `end` runs in a signal handler: it may
/// make system calls, and must neither allocate nor take a lock. The first call counts.
///
/// # Errors
/// As `sigaltstack` and `sigaction`.
pub fn end_by(end: fn(c_int) -> !) -> Result<(), Errno> {
    // The first knows no less than the second.
    let _ = END.set(end);
    // Never freed: the handler may need it as long as the process lives.
    let stack = Box::leak(vec![0u8; STACK_BYTES].into_boxed_slice());
    let stack = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: stack.len(),
    };
    // SAFETY: the stack is valid memory that nothing else uses, for as long as the process lives.
    if unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) } != 0 {
        return Err(last_errno());
    }
    for signal in SIGNALS {
        // SAFETY: `sigaction` is plain integers, for which zero is a valid value; the handler has the
        // signature that SA_SIGINFO asks for, and calls only what a handler may.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid `siginfo_t`; the sender's field is
    // read where the code says that it is there.
    let own = unsafe {
        let code = (*info).si_code;
        code > 0 || code == SI_TKILL && (*info).si_pid() == libc::getpid()
    };
    if own && let Some(end) = END.get() {
        end(signal);
    }
}

/// Has a child of this process write the file systems out, and waits for it for so many milliseconds at
/// most. Allocates nothing and takes no lock, so that a signal handler may call it.
pub fn sync_within(milliseconds: u32) {
    // SAFETY: no memory is touched but a `timespec` on the stack. The child is a copy of this one
    // thread, which makes two system calls and ends.
    unsafe {
        let child = libc::syscall(libc::SYS_fork);
        if child == 0 {
            libc::syscall(libc::SYS_sync);
            libc::_exit(0);
        }
        let pause = libc::timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        for _ in 0..milliseconds {
            let none = std::ptr::null_mut::<c_int>();
            let ended = libc::syscall(libc::SYS_wait4, child, none, libc::WNOHANG, 0);
            if ended != 0 {
                return;
            }
            libc::nanosleep(&raw const pause, std::ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, ExitStatus};
    use std::time::{Duration, Instant};

    use super::*;

    /// Which fault the test's own copy is to make.
    const FAULT: &str = "NOONMARK_FATAL";

    /// What it then ends with.
    const ENDED: i32 = 42;

    fn ended(_: c_int) -> ! {
        // SAFETY: ends the process, and touches no memory.
        unsafe { libc::_exit(ENDED) }
    }

    /// Not a test of its own: what the copies run.
    #[test]
    fn copy() {
        let Ok(fault) = std::env::var(FAULT) else {
            return;
        };
        end_by(ended).unwrap();
        match fault.as_str() {
            "abort" => std::process::abort(),
            "allocation" => {
                std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 64]>());
            }
            "access" => access(),
            "stack" => assert!(deeper(1) > 0),
            "foreign" => {
                // SAFETY: sends a signal as any other process would: `abort` does so by `tkill`.
                unsafe { libc::kill(libc::getpid(), libc::SIGSEGV) };
            }
            other => panic!("{other}"),
        }
    }

    /// Reads memory that may not be read.
    fn access() {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the page is new and nobody else's; that reading it is fatal is what is tested.
        unsafe {
            let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0);
            std::hint::black_box(page.cast::<u8>().read_volatile());
        }
    }

    /// Takes a kilobyte of stack a call, without end.
    #[allow(unconditional_recursion, reason = "the stack is to run out")]
    fn deeper(depth: u64) -> u64 {
        let room = std::hint::black_box([depth; 128]);
        deeper(depth + 1) + room[1]
    }

    fn copy_of(fault: &str) -> ExitStatus {
        Command::new(std::env::current_exe().unwrap())
            .args(["sys::fatal::tests::copy", "--exact", "--test-threads=1"])
            .env(FAULT, fault)
            .output()
            .unwrap()
            .status
    }

    #[test]
    fn what_a_process_does_itself_ends_as_it_chose() {
        for fault in ["abort", "allocation", "access", "stack"] {
            assert_eq!(copy_of(fault).code(), Some(ENDED), "{fault}");
        }
    }

    #[test]
    fn a_signal_of_anybody_else_has_no_effect() {
        assert_eq!(copy_of("foreign").code(), Some(0));
    }

    #[test]
    fn file_systems_are_written_out_by_a_child_that_is_waited_for_no_longer_than_is_said() {
        let began = Instant::now();
        sync_within(50);
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
