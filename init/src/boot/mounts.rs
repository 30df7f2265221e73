//! The file systems of a running guest.

use std::ffi::CString;
use std::fs;

use noonmark_contract::config::system::TmpfsConfig;
use noonmark_contract::config::values::SizeKib;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_remount};
use thiserror::Error;

/// A file system that is not as it should be.
#[derive(Debug, Error)]
pub enum MountError {
    /// It could not be mounted.
    #[error("mounting {kind} on {target}: {errno}")]
    Mount {
        /// The file system's type.
        kind: &'static str,
        /// Where.
        target: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// It could not be given its size, and keeps the kernel's.
    #[error("[tmpfs] {key} = {kib}: {target} keeps the kernel's size: {errno}")]
    Limit {
        /// The key of `guest.toml`.
        key: &'static str,
        /// What it says.
        kib: u32,
        /// Where the file system is.
        target: &'static str,
        /// Why not.
        errno: Errno,
    },
}

struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static std::ffi::CStr,
}

/// For a mount without programs, devices or set-user-ID files.
pub const HARDENED: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NODEV);

const RUN: MountFlags = HARDENED;
const TMP: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

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
        // Who may not look into a process doesn't see it. The group that does all the same would be 0,
        // that of services of user 0; this is nobody's.
        options: c"hidepid=2,gid=4294967294",
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
        // A control group's own namespace ends its rights: who is in it can't lift its limits.
        options: c"nsdelegate",
    },
    Mount {
        kind: "tmpfs",
        target: "/run",
        flags: RUN,
        options: c"mode=0755",
    },
    Mount {
        kind: "tmpfs",
        target: "/tmp",
        flags: TMP,
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

/// Gives `/run` and `/tmp` the sizes that the configuration has for them, while they are still
/// empty: the kernel refuses a size that is below what a file system holds already. It rounds a size
/// up to whole pages.
#[must_use]
pub fn limit(sizes: &TmpfsConfig) -> Vec<MountError> {
    [
        ("run_kib", sizes.run_kib, "/run", RUN),
        ("tmp_kib", sizes.tmp_kib, "/tmp", TMP),
    ]
    .into_iter()
    .filter_map(|(key, size, target, flags)| {
        let kib = size.map(SizeKib::get)?;
        // A remount replaces the flags as well.
        let resized = CString::new(format!("size={kib}k"))
            .map_err(|_| Errno::INVAL)
            .and_then(|size| mount_remount(target, flags, size.as_c_str()));
        let errno = resized.err()?;
        Some(MountError::Limit {
            key,
            kib,
            target,
            errno,
        })
    })
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
        Err(errno) => Err(MountError::Mount {
            kind: entry.kind,
            target: entry.target,
            errno,
        }),
    }
}
