//! PID 1 of the guest.
//!
//! PID 1 is a shell of I/O around [`noonmark_sync::engine::Engine`]: it turns what the kernel tells
//! into the engine's inputs, carries out its actions, and reports. It has one loop, and threads
//! beside it for nothing but what a disk can hold up in the kernel: mounting, and writing out at the
//! end. Nothing in it waits without a deadline, and nothing that a host, a service or a device does
//! can end it.

pub mod allowance;
pub mod boot;
pub mod button;
pub mod discipline;
pub mod disks;
pub mod door;
pub mod eventlog;
pub mod events;
pub mod handover;
pub mod modules;
pub mod mounts;
pub mod pid1;
pub mod power;
pub mod report;
pub mod rtc;
pub mod samples;
pub mod services;
pub mod setup;
pub mod signals;
pub mod status;
pub mod statusfile;
pub mod stop;
pub mod timechannel;
pub mod timers;
pub mod uevent;
pub mod vmclock;
