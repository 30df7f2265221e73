//! What PID 1 reports, and to whom: the host, the guest's own programs, the kernel's log.

pub mod clockbound;
pub mod file;
pub mod log;
pub mod port;
pub mod report;
