//! System calls that a test's intruder makes to be refused. Each is a fixed one whose outcome, also a
//! success, touches no memory of the caller: where the kernel wants a pointer, it gets a null one, and
//! says EFAULT to who has the right to the call.

use libc::c_long;
use rustix::io::Errno;

use super::last_errno;

/// What is attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// `unshare(CLONE_NEWUSER)`: all capabilities, in a user namespace of its own.
    UserNamespace,
    /// `unshare(CLONE_NEWNS)`.
    MountNamespace,
    /// `unshare(CLONE_NEWTIME)`.
    TimeNamespace,
    /// `ptrace(PTRACE_SEIZE)` of PID 1.
    Trace,
    /// `process_vm_writev` to PID 1.
    WriteMemory,
    /// `prlimit64` of PID 1's open files.
    Limits,
    /// `sched_setaffinity` of PID 1.
    Affinity,
    /// `sched_setscheduler` of PID 1.
    Scheduler,
    /// `setpriority` of PID 1.
    Priority,
    /// `setpriority` of all processes of user 0.
    UsersPriority,
    /// `ioprio_set` of PID 1.
    IoPriority,
    /// `pidfd_getfd`.
    TakeDescriptor,
    /// `kcmp` of PID 1.
    Compare,
    /// `bpf`.
    Bpf,
    /// `perf_event_open`.
    Perf,
    /// `userfaultfd`.
    Userfault,
    /// `io_uring_setup`.
    IoUring,
    /// `kexec_load`.
    Kexec,
    /// `init_module`.
    Module,
    /// `add_key`.
    Key,
    /// `mount`.
    Mount,
    /// `pivot_root`.
    PivotRoot,
    /// `open_by_handle_at`: files by their inode, wherever they are mounted.
    OpenByHandle,
    /// `swapon`.
    Swap,
    /// `acct`.
    Accounting,
    /// `settimeofday`.
    SetTime,
    /// `iopl`.
    Ports,
    /// `quotactl`.
    Quota,
    /// `vhangup`.
    Hangup,
    /// `syslog`, to clear the kernel's log.
    Log,
    /// `setns` to PID 1's namespaces, by a descriptor that is none.
    EnterNamespace,
}

impl Attempt {
    /// The system call's number, and its arguments.
    fn call(self) -> (c_long, [c_long; 5]) {
        let namespace = |flag: i32| (libc::SYS_unshare, [flag.into(), 0, 0, 0, 0]);
        match self {
            Self::UserNamespace => namespace(libc::CLONE_NEWUSER),
            Self::MountNamespace => namespace(libc::CLONE_NEWNS),
            Self::TimeNamespace => namespace(0x80),
            Self::Trace => (libc::SYS_ptrace, [0x4206, 1, 0, 0, 0]),
            Self::WriteMemory => (libc::SYS_process_vm_writev, [1, 0, 0, 0, 0]),
            Self::Limits => (libc::SYS_prlimit64, [1, 7, 0, 0, 0]),
            Self::Affinity => (libc::SYS_sched_setaffinity, [1, 0, 0, 0, 0]),
            Self::Scheduler => (libc::SYS_sched_setscheduler, [1, 0, 0, 0, 0]),
            Self::Priority => (libc::SYS_setpriority, [0, 1, 19, 0, 0]),
            Self::UsersPriority => (libc::SYS_setpriority, [2, 0, 19, 0, 0]),
            Self::IoPriority => (libc::SYS_ioprio_set, [1, 1, 3 << 13, 0, 0]),
            Self::TakeDescriptor => (libc::SYS_pidfd_getfd, [-1, 0, 0, 0, 0]),
            Self::Compare => (libc::SYS_kcmp, [1, 1, 0, 0, 0]),
            Self::Bpf => (libc::SYS_bpf, [0; 5]),
            Self::Perf => (libc::SYS_perf_event_open, [0; 5]),
            Self::Userfault => (libc::SYS_userfaultfd, [0; 5]),
            Self::IoUring => (libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]),
            Self::Kexec => (libc::SYS_kexec_load, [0; 5]),
            Self::Module => (libc::SYS_init_module, [0; 5]),
            Self::Key => (libc::SYS_add_key, [0; 5]),
            Self::Mount => (libc::SYS_mount, [0; 5]),
            Self::PivotRoot => (libc::SYS_pivot_root, [0; 5]),
            Self::OpenByHandle => (libc::SYS_open_by_handle_at, [0; 5]),
            Self::Swap => (libc::SYS_swapon, [0; 5]),
            Self::Accounting => (libc::SYS_acct, [0; 5]),
            Self::SetTime => (libc::SYS_settimeofday, [0; 5]),
            Self::Ports => (libc::SYS_iopl, [3, 0, 0, 0, 0]),
            Self::Quota => (libc::SYS_quotactl, [0; 5]),
            Self::Hangup => (libc::SYS_vhangup, [0; 5]),
            Self::Log => (libc::SYS_syslog, [5, 0, 0, 0, 0]),
            Self::EnterNamespace => (libc::SYS_setns, [-1, 0, 0, 0, 0]),
        }
    }

    /// Makes it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(self) -> Result<(), Errno> {
        let (number, [a, b, c, d, e]) = self.call();
        // SAFETY: the calls are those of the table alone: none is given a pointer but a null one, and
        // none maps, unmaps or protects memory, so that whatever it does, this process's memory and
        // descriptors stay what they are.
        if unsafe { libc::syscall(number, a, b, c, d, e) } < 0 {
            Err(last_errno())
        } else {
            Ok(())
        }
    }
}
