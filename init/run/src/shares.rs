//! Folders of the host, which it offers over 9p.

use std::fs;

use noonmark_contract::run::Share;
use rustix::mount::{MountFlags, mount as mount_file_system};

/// The options, as in Documentation/filesystems/9p.rst. One user of the host's does all of it, so the
/// guest's users need not be known there; files may be mapped for writing; and messages are large enough
/// that a copy is no matter of round trips.
const OPTIONS: &str = "trans=virtio,version=9p2000.L,access=any,cache=mmap,msize=512000";

/// Mounts it, and makes the folder where it is missing.
///
/// # Errors
/// Why it can't be mounted.
pub fn mount(share: &Share) -> Result<(), String> {
    let named = |error: &dyn std::fmt::Display| format!("the share at {}: {error}", share.path);
    if !fs::exists(&share.path).unwrap_or(false) {
        fs::create_dir_all(&share.path).map_err(|error| named(&error))?;
    }
    let flags = match share.read_only {
        true => MountFlags::RDONLY,
        false => MountFlags::empty(),
    };
    let options = std::ffi::CString::new(OPTIONS).map_err(|error| named(&error))?;
    mount_file_system(
        share.tag.as_str(),
        share.path.as_str(),
        "9p",
        flags,
        options.as_c_str(),
    )
    .map_err(|errno| named(&errno))
}
