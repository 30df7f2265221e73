//! What noonmark itself puts into an initrd, by path in the guest; a spec's own files go beside it.

use noonmark_contract::config;
use noonmark_contract::config::system::SEED_PROGRAM;
use noonmark_contract::config::values::check_guest_path;

/// PID 1's program.
pub const INIT_PROGRAM: &str = "/init";

/// The fault program of a test image.
pub const FAULT_PROGRAM: &str = "/noonmark-fault";

/// The program that sets up the network, in an image that has one.
pub const NET_PROGRAM: &str = "/noonmark-net";

/// The NTP client, in an image that has one.
pub const NTP_PROGRAM: &str = "/noonmark-ntp";

/// The guest agent, in an image that has one.
pub const AGENT_PROGRAM: &str = "/noonmark-agent";

/// The program that runs the host's commands, in an image for them.
pub const RUN_PROGRAM: &str = "/noonmark-run";

/// Where programs look for name servers; a link to what [`NET_PROGRAM`] writes.
pub const RESOLV_CONF_LINK: &str = "/etc/resolv.conf";

/// Where programs of ClockBound look for its segment: below `/var/run`, which is a link to this.
pub const RUN: &str = "/run";

/// The link to [`RUN`], in an image whose programs find the time's bound there.
pub const RUN_LINK: &str = "/var/run";

/// Files that are noonmark's own in any image, whether or not this one has them.
pub const OWN_FILES: [&str; 10] = [
    INIT_PROGRAM,
    config::PATH,
    FAULT_PROGRAM,
    NET_PROGRAM,
    NTP_PROGRAM,
    AGENT_PROGRAM,
    RUN_PROGRAM,
    SEED_PROGRAM,
    RESOLV_CONF_LINK,
    RUN_LINK,
];

/// Whether PID 1 mounts something on this folder.
#[must_use]
pub fn is_mount_point(path: &str) -> bool {
    MOUNT_POINTS.iter().any(|(folder, _)| *folder == path)
}

/// Directories that PID 1 mounts something on, and their permissions. A file of the image there
/// would be hidden.
pub const MOUNT_POINTS: [(&str, u32); 5] = [
    ("/dev", 0o755),
    ("/proc", 0o555),
    (RUN, 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
];

/// Whether something of the image may have this path.
///
/// # Errors
/// What is wrong with it.
pub fn check_place(path: &str) -> Result<(), &'static str> {
    check_guest_path(path)?;
    if OWN_FILES.contains(&path) {
        return Err("noonmark's own file; choose another path");
    }
    let hidden = MOUNT_POINTS.iter().map(|(folder, _)| *folder);
    if hidden
        .chain([RUN_LINK])
        .any(|folder| path == folder || path.starts_with(&format!("{folder}/")))
    {
        return Err(
            "PID 1 mounts over /dev, /proc, /sys, /run (which is /var/run too) and /tmp, so the \
             file could not be seen; choose another folder",
        );
    }
    Ok(())
}
