//! What the guest's programs share of Linux.
//!
//! | module | job |
//! |---|---|
//! | [`clocks`] | the kernel's clocks, and REALTIME between two readings of MONOTONIC_RAW |
//! | [`phc`] | PTP hardware clocks: found, and read by the best of three ioctls |
//! | [`ports`], [`lines`] | virtio-serial ports, and bounded lines on them |
//! | [`datagrams`] | datagrams of local sockets, with the process that sent each |
//! | [`affinity`] | on which processors a program runs |
//! | [`kmsg`] | the kernel's log |
//! | [`sys`] | system calls without a safe wrapper, and the child's side of a spawn: all `unsafe` of the guest |

pub mod affinity;
pub mod clocks;
pub mod datagrams;
pub mod kmsg;
pub mod lines;
pub mod phc;
pub mod ports;
pub mod sys;
