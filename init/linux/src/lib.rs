//! What the guest's programs share of Linux: system calls without a safe wrapper, the clocks, PHCs,
//! virtio-serial ports and the lines on them, processors, and the kernel's log.

pub mod affinity;
pub mod clocks;
pub mod kmsg;
pub mod lines;
pub mod phc;
pub mod ports;
pub mod sys;
