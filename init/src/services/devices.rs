//! The `/dev` of services that need no device of the machine's: the devices of [`NODES`], pseudo-terminals,
//! and a folder for shared memory. PID 1 makes it once; each service that is to have it sees it in the place of the
//! machine's own, in a mount namespace of its own.

use std::ffi::CStr;

use noonmark_contract::config::Service;
use rustix::fs::{CWD, FileType, Mode, chmod, makedev, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_remount};

use crate::boot::mounts::HARDENED;
use crate::boot::runtime_dir::PRIVATE_DEV;

/// Name, major and minor number (Documentation/admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Where shells and libraries expect a new pseudo-terminal and a process's own descriptors.
const LINKS: [(&str, &str); 5] = [
    // pty(7), in an instance of their own (Documentation/filesystems/devpts.rst).
    ("pts/ptmx", "ptmx"),
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

/// Makes it. [`PRIVATE_DEV`] must be there.
///
/// # Errors
/// What the kernel says; services that are to have it can't be started then.
pub fn prepare() -> Result<(), Errno> {
    let folder = PRIVATE_DEV.to_str().map_err(|_| Errno::INVAL)?;
    mount("tmpfs", PRIVATE_DEV, "tmpfs", FLAGS, c"mode=0755,size=64k")?;
    let all = Mode::from_raw_mode(0o666);
    for (name, major, minor) in NODES {
        let path = format!("{folder}/{name}");
        let device = makedev(major, minor);
        mknodat(CWD, path.as_str(), FileType::CharacterDevice, all, device)?;
        // The file mode creation mask took some of it.
        chmod(path.as_str(), all)?;
    }
    for (target, name) in LINKS {
        symlinkat(target, CWD, format!("{folder}/{name}"))?;
    }
    let shared = format!("{folder}/shm");
    mkdirat(CWD, shared.as_str(), Mode::from_raw_mode(0o755))?;
    mount("tmpfs", shared.as_str(), "tmpfs", HARDENED, c"mode=1777")?;
    let terminals = format!("{folder}/pts");
    mkdirat(CWD, terminals.as_str(), Mode::from_raw_mode(0o755))?;
    mount(
        "devpts",
        terminals.as_str(),
        "devpts",
        FLAGS,
        c"newinstance,ptmxmode=0666,mode=0620",
    )?;
    mount_remount(
        PRIVATE_DEV,
        MountFlags::BIND | MountFlags::RDONLY | FLAGS,
        "",
    )
}

/// What this service has in the place of `/dev`.
#[must_use]
pub fn of(service: &Service) -> Option<&'static CStr> {
    service.private_devices.then_some(PRIVATE_DEV)
}
