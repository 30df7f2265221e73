//! The file systems of a running guest.

use std::fs;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use thiserror::Error;

/// A file system that could not be mounted.
#[derive(Debug, Error)]
#[error("mounting {kind} on {target}: {errno}")]
pub struct MountError {
    kind: &'static str,
    target: &'static str,
    errno: Errno,
}

struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static std::ffi::CStr,
}

const HARDENED: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NODEV);

/// In this order: `/dev` first, because the log is there.
const MOUNTS: [Mount; 6] = [
    Mount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: c"mode=0755",
    },
    Mount {
        kind: "proc",
        target: "/proc",
        flags: HARDENED,
        options: c"",
    },
    Mount {
        kind: "sysfs",
        target: "/sys",
        flags: HARDENED,
        options: c"",
    },
    Mount {
        kind: "cgroup2",
        target: "/sys/fs/cgroup",
        flags: HARDENED,
        options: c"",
    },
    Mount {
        kind: "tmpfs",
        target: "/run",
        flags: HARDENED,
        options: c"mode=0755",
    },
    Mount {
        kind: "tmpfs",
        target: "/tmp",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: c"mode=1777",
    },
];

/// Mounts `/dev` alone, so that there is a log for what follows.
///
/// # Errors
/// [`MountError`].
pub fn dev() -> Result<(), MountError> {
    one(&MOUNTS[0])
}

/// Mounts the rest; what can't be mounted is reported, and the others are mounted all the same.
#[must_use]
pub fn rest() -> Vec<MountError> {
    MOUNTS[1..]
        .iter()
        .filter_map(|entry| one(entry).err())
        .collect()
}

fn one(entry: &Mount) -> Result<(), MountError> {
    // Where the folder can't be made, the mount below says so more clearly.
    let _ = fs::create_dir_all(entry.target);
    match mount(
        entry.kind,
        entry.target,
        entry.kind,
        entry.flags,
        entry.options,
    ) {
        // EBUSY: the kernel has mounted it itself (CONFIG_DEVTMPFS_MOUNT).
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(errno) => Err(MountError {
            kind: entry.kind,
            target: entry.target,
            errno,
        }),
    }
}
