//! Hardens the machine before the first service starts: from then on no service, whatever its user,
//! can change the root file system or the kernel. The threat model is in `init/docs/threat-model.md`.

use std::fs;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use thiserror::Error;

use super::mounts::HARDENED;

/// A step that failed.
#[derive(Debug, Error)]
pub enum HardeningError {
    /// A mount stays writable.
    #[error("making {path} read-only: {errno}")]
    Mount {
        /// Which.
        path: &'static str,
        /// What the kernel says.
        errno: Errno,
    },
    /// A kernel setting stays as it was.
    #[error("sysctl {name}: {source}")]
    Sysctl {
        /// Which.
        name: &'static str,
        /// What the kernel says.
        source: std::io::Error,
    },
}

/// Kernel settings, their values, and why; an image or a seed that sets one itself keeps its own.
const SETTINGS: [(&str, &str); 9] = [
    // The kernel's log and addresses tell an attacker where to aim.
    ("kernel.dmesg_restrict", "1"),
    ("kernel.kptr_restrict", "1"),
    ("kernel.unprivileged_bpf_disabled", "1"),
    // No key on the console reboots or dumps.
    ("kernel.sysrq", "0"),
    // In a user namespace of its own a process holds all capabilities, and can mount control groups.
    (USER_NAMESPACES, "0"),
    // Only who has CAP_SYS_PTRACE attaches to another process, also one of its own user: the NTP
    // client's word counts, and a service of user 0 can become its user.
    ("kernel.yama.ptrace_scope", "2"),
    // What the kernel would do for a service through these has had more flaws than users here.
    ("kernel.io_uring_disabled", "2"),
    ("kernel.perf_event_paranoid", "3"),
    ("kernel.kexec_load_disabled", "1"),
];

/// How many user namespaces there may be.
pub const USER_NAMESPACES: &str = "user.max_user_namespaces";

/// Once 1, no module can be loaded until the machine starts anew.
const MODULES_DISABLED: &str = "kernel.modules_disabled";

/// What user 0 could change the kernel through without any capability: `/proc/sysrq-trigger`
/// reboots, `/proc/sys/kernel/core_pattern` runs programs with all rights.
const READ_ONLY_PATHS: [&str; 5] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
];

/// The other mounts that nobody needs to write to; PID 1 has a mount of the control groups of its own.
const READ_ONLY_MOUNTS: [(&str, MountFlags); 3] = [
    ("/sys/fs/cgroup", HARDENED),
    ("/sys", HARDENED),
    ("/", MountFlags::empty()),
];

/// Takes every step; those that fail are returned, and keep no other from being taken. `is_set` says
/// whether the configuration has the say on a kernel setting.
#[must_use]
pub fn apply(lock_modules: bool, is_set: impl Fn(&str) -> bool) -> Vec<HardeningError> {
    let mut errors = Vec::new();
    let modules = lock_modules.then_some((MODULES_DISABLED, "1"));
    for (name, value) in SETTINGS.into_iter().chain(modules) {
        if is_set(name) {
            continue;
        }
        match fs::write(path_of(name), value) {
            // A kernel without the feature needs no setting for it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => errors.push(HardeningError::Sysctl { name, source }),
            Ok(()) => {}
        }
    }
    for path in READ_ONLY_PATHS {
        match mount_bind(path, path).and_then(|()| read_only(path, HARDENED)) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => errors.push(HardeningError::Mount { path, errno }),
        }
    }
    for (path, flags) in READ_ONLY_MOUNTS {
        if let Err(errno) = read_only(path, flags) {
            errors.push(HardeningError::Mount { path, errno });
        }
    }
    errors
}

/// Of this mount alone: the file system stays writable where it is mounted elsewhere.
fn read_only(path: &str, flags: MountFlags) -> Result<(), Errno> {
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | flags, "")
}

fn path_of(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_file_below_proc_sys() {
        assert_eq!(
            path_of(MODULES_DISABLED),
            "/proc/sys/kernel/modules_disabled"
        );
    }
}
