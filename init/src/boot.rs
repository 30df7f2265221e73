//! What PID 1 does once, before the first service starts.

pub mod config;
pub mod disks;
pub mod early;
pub mod hardening;
pub mod modules;
pub mod mounts;
pub mod runtime_dir;
