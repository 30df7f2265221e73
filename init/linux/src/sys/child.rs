//! The child's side of a fork: what it does to itself before it becomes a service's program.

use std::ffi::{CStr, CString, c_char};
use std::io::Write as _;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::mount_bind_recursive;
use rustix::process::Pid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use seccompiler::BpfProgram;

use crate::affinity;

use super::{last_errno, unblock_signals};

/// `CLONE_INTO_CGROUP` (include/uapi/linux/sched.h).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `CLOSE_RANGE_CLOEXEC` (include/uapi/linux/close_range.h).
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// What a child that could not become its program exits with, as a shell's would.
const NOT_EXECUTED: i32 = 127;

/// The highest capability that the kernel could have: it keeps 64 bits.
const CAPABILITIES: u32 = 64;

/// How a process is to be started.
#[derive(Debug)]
pub struct SpawnConfig<'a> {
    /// The program's path, then its arguments.
    pub exec: &'a [CString],
    /// `NAME=VALUE`.
    pub environment: &'a [CString],
    /// `NAME=` of the variable that has its own process id.
    pub pid_variable: Option<&'a CStr>,
    /// Where it starts.
    pub cwd: &'a CStr,
    /// Its standard input.
    pub input: BorrowedFd<'a>,
    /// Its output.
    pub output: BorrowedFd<'a>,
    /// Its error output.
    pub errors: BorrowedFd<'a>,
    /// The folder of its control group.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The folder that it sees in the place of `/dev`, in a mount namespace of its own.
    pub devices: Option<&'a CStr>,
    /// Folders that are made where they are missing, and become its user's.
    pub directories: &'a [CString],
    /// The system calls that it may not make.
    pub filters: &'a [BpfProgram],
    /// Whether nothing that it executes can gain it rights; always so where it has a filter.
    pub no_new_privileges: bool,
    /// Its user.
    pub user: u32,
    /// Its group; it has no other.
    pub group: u32,
    /// The capabilities that it and all that it executes may have.
    pub capabilities_kept: CapabilitySet,
    /// Where it writes a [`SpawnFailure`] when it fails.
    pub failure_pipe: BorrowedFd<'a>,
}

/// How far a child came that did not become its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Session, descriptors, processors.
    Prepare = 0,
    /// Its folder.
    Folder = 1,
    /// User, group, capabilities.
    Rights = 2,
    /// Executing the program.
    Execute = 3,
    /// Its own `/dev`.
    Devices = 4,
    /// Its system call filter.
    Filter = 5,
    /// Its folders.
    Directories = 6,
}

/// What a child writes to its pipe when it fails: process, stage, errno, each a native 32-bit word; shorter
/// than `PIPE_BUF`, so that a write of it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// The child's process id.
    pub pid: u32,
    /// How far it came.
    pub stage: Stage,
    /// What the kernel said.
    pub errno: Errno,
}

const FAILURE_BYTES: usize = 12;

/// A variable's name and the longest process id.
const VARIABLE_BYTES: usize = 32;

impl SpawnFailure {
    /// The next failure; none where no more wait. Bytes that are no failure end the list.
    pub fn read(from: BorrowedFd<'_>) -> Option<Self> {
        let mut bytes = [0u8; FAILURE_BYTES];
        let count = rustix::io::read(from, &mut bytes).ok()?;
        (count == FAILURE_BYTES).then(|| Self::parse(&bytes))?
    }

    fn parse(bytes: &[u8; FAILURE_BYTES]) -> Option<Self> {
        let word = |at: usize| {
            let mut word = [0u8; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_ne_bytes(word)
        };
        let stage = match word(4) {
            0 => Stage::Prepare,
            1 => Stage::Folder,
            2 => Stage::Rights,
            3 => Stage::Execute,
            4 => Stage::Devices,
            5 => Stage::Filter,
            6 => Stage::Directories,
            _ => return None,
        };
        let errno = i32::try_from(word(8))
            .ok()
            .filter(|e| (1..4096).contains(e))?;
        Some(Self {
            pid: word(0),
            stage,
            errno: Errno::from_raw_os_error(errno),
        })
    }

    fn bytes(self) -> [u8; FAILURE_BYTES] {
        let mut bytes = [0; FAILURE_BYTES];
        bytes[..4].copy_from_slice(&self.pid.to_ne_bytes());
        bytes[4..8].copy_from_slice(&(self.stage as u32).to_ne_bytes());
        bytes[8..].copy_from_slice(&self.errno.raw_os_error().to_ne_bytes());
        bytes
    }
}

/// Starts the process and returns at once: it does not wait until the program is executed, because
/// on a busy machine that can take long, and PID 1 has a clock to keep.
///
/// # Errors
/// As `clone3`: EAGAIN where there are too many processes, ENOMEM.
pub fn spawn(config: &SpawnConfig<'_>) -> Result<Pid, Errno> {
    // Made before the fork, because the child must not allocate.
    let arguments = pointers(config.exec);
    let mut environment = pointers(config.environment);
    // A place for `pid_variable`.
    environment.push(std::ptr::null());
    // SAFETY: `clone_args` is plain integers, for which zero is a valid value.
    let mut how: libc::clone_args = unsafe { mem::zeroed() };
    how.exit_signal = libc::SIGCHLD as u64;
    if config.devices.is_some() {
        how.flags |= libc::CLONE_NEWNS as u64;
    }
    if let Some(cgroup) = config.cgroup {
        how.flags |= CLONE_INTO_CGROUP;
        how.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has a copy of this process's memory and of this one
    // thread, as after `fork`. It makes only system calls, allocates nothing, takes no lock, and
    // ends in `execve` or `_exit`, so that it never returns into this process's code.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const how,
            mem::size_of::<libc::clone_args>(),
        )
    };
    match result {
        0 => exec_program(config, &arguments, &mut environment),
        pid if pid > 0 => i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Errno::IO),
        _ => Err(last_errno()),
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts
        .iter()
        .map(|text| text.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

fn exec_program(
    config: &SpawnConfig<'_>,
    exec: &[*const c_char],
    environment: &mut [*const c_char],
) -> ! {
    let pid = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let mut variable = [0u8; VARIABLE_BYTES];
    if let (Some(name), [.., place, _]) = (config.pid_variable, &mut *environment)
        && write_variable(name, pid, &mut variable).is_some()
    {
        *place = variable.as_ptr().cast();
    }
    let (stage, errno) = prepare(config, exec, environment);
    let failure = SpawnFailure { pid, stage, errno };
    // Where that fails, PID 1 still learns of the exit code.
    let _ = rustix::io::write(config.failure_pipe, &failure.bytes());
    // SAFETY: ends this process at once, without running anything of PID 1's in it.
    unsafe { libc::_exit(NOT_EXECUTED) }
}

/// Writes a name that ends in `=` and a number, without a memory to allocate from; what follows are NUL
/// bytes. None where there is no room for it.
fn write_variable(name: &CStr, number: u32, buffer: &mut [u8; VARIABLE_BYTES]) -> Option<()> {
    let mut rest = &mut buffer[..VARIABLE_BYTES - 1];
    rest.write_all(name.to_bytes()).ok()?;
    write!(rest, "{number}").ok()
}

/// Comes back only where something failed.
fn prepare(
    config: &SpawnConfig<'_>,
    exec: &[*const c_char],
    environment: &[*const c_char],
) -> (Stage, Errno) {
    let own = || -> Result<(), Errno> {
        rustix::process::setsid()?;
        unblock_signals()?;
        // Rust's start-up code ignores SIGPIPE, and what is ignored stays so across `execve`.
        default_sigpipe()?;
        affinity::allow_all()?;
        rustix::stdio::dup2_stdin(config.input)?;
        rustix::stdio::dup2_stdout(config.output)?;
        rustix::stdio::dup2_stderr(config.errors)?;
        mark_close_on_exec()
    };
    if let Err(errno) = own() {
        return (Stage::Prepare, errno);
    }
    if let Some(devices) = config.devices
        && let Err(errno) = mount_bind_recursive(devices, c"/dev")
    {
        return (Stage::Devices, errno);
    }
    // Here rather than in PID 1, which must not wait for a disk that doesn't answer.
    if let Err(errno) = make_directories(config) {
        return (Stage::Directories, errno);
    }
    // As the user, who may not be let in everywhere; the rights come before the folder.
    if let Err(errno) = drop_privileges(config) {
        return (Stage::Rights, errno);
    }
    if let Err(errno) = rustix::process::chdir(config.cwd) {
        return (Stage::Folder, errno);
    }
    for filter in config.filters {
        if let Err(error) = seccompiler::apply_filter(filter) {
            return (Stage::Filter, filter_errno(&error));
        }
    }
    // SAFETY: both arrays end in a null pointer, and what they point to outlives the call.
    unsafe { libc::execve(exec[0], exec.as_ptr(), environment.as_ptr()) };
    (Stage::Execute, last_errno())
}

/// Only the folders themselves are given to the user: what is in them is its own already, unless the
/// image has changed the user.
fn make_directories(config: &SpawnConfig<'_>) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    let (user, group) = (Uid::from_raw(config.user), Gid::from_raw(config.group));
    for path in config.directories {
        match mkdirat(CWD, path, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        // Whatever a service has put in its place is not followed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty())?;
        fchown(folder, Some(user), Some(group))?;
    }
    Ok(())
}

/// Gives up all capabilities but those that are kept, from every set that could give them back, and takes
/// the user. Afterwards nothing that is executed can gain any.
fn drop_privileges(config: &SpawnConfig<'_>) -> Result<(), Errno> {
    let root = config.user == 0;
    for number in 0..CAPABILITIES {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if !config.capabilities_kept.contains(capability) {
            match remove_capability_from_bounding_set(capability) {
                // EINVAL: the kernel has no such capability.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    clear_ambient_capability_set()?;
    let group = rustix::process::Gid::from_raw(config.group);
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    if !root {
        set_keep_capabilities(true)?;
        let user = rustix::process::Uid::from_raw(config.user);
        set_thread_res_uid(user, user, user)?;
    }
    let held = rustix::thread::capabilities(None)?;
    let capabilities_kept = held.permitted.intersection(config.capabilities_kept);
    let inheritable = if root {
        CapabilitySet::empty()
    } else {
        capabilities_kept
    };
    set_capabilities(
        None,
        CapabilitySets {
            effective: capabilities_kept,
            permitted: capabilities_kept,
            inheritable,
        },
    )?;
    if !root {
        for capability in capabilities_kept.iter() {
            configure_capability_in_ambient_set(capability, true)?;
        }
    }
    match config.no_new_privileges {
        true => set_no_new_privs(true),
        false => Ok(()),
    }
}

fn filter_errno(error: &seccompiler::Error) -> Errno {
    match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => {
            Errno::from_io_error(error).unwrap_or(Errno::IO)
        }
        _ => Errno::INVAL,
    }
}

fn default_sigpipe() -> Result<(), Errno> {
    // SAFETY: sets a disposition that needs no handler.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(last_errno());
    }
    Ok(())
}

/// Every descriptor of PID 1's is opened close-on-exec; this holds whatever a library may do.
fn mark_close_on_exec() -> Result<(), Errno> {
    // SAFETY: marks descriptors from 3 on; touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_its_name_and_the_number() {
        let mut buffer = [0; VARIABLE_BYTES];
        write_variable(c"WATCHDOG_PID=", u32::MAX, &mut buffer).unwrap();
        let written = CStr::from_bytes_until_nul(&buffer).unwrap();
        assert_eq!(written, c"WATCHDOG_PID=4294967295");
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let failure = SpawnFailure {
            pid: 71,
            stage: Stage::Execute,
            errno: Errno::NOENT,
        };
        assert_eq!(SpawnFailure::parse(&failure.bytes()), Some(failure));
        assert_eq!(SpawnFailure::parse(&[0xff; FAILURE_BYTES]), None);
    }
}
