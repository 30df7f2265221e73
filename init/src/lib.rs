//! What the guest's programs are made of: PID 1, the fault program, and what sets up the network.
//!
//! PID 1 is a shell of I/O around [`noonmark_sync::engine::Engine`]: it turns what the kernel tells
//! into the engine's inputs, carries out its actions, and reports. It has one loop, and threads
//! beside it for nothing but what a disk can hold up in the kernel: mounting, and writing out at the
//! end. Nothing in it waits without a deadline, and nothing that a host, a service or a device does
//! can end it.

pub mod affinity;
pub mod allowance;
pub mod boot;
pub mod button;
pub mod clocks;
pub mod discipline;
pub mod disks;
pub mod door;
pub mod eventlog;
pub mod events;
pub mod handover;
pub mod kmsg;
pub mod lines;
pub mod modules;
pub mod mounts;
pub mod phc;
pub mod pid1;
pub mod ports;
pub mod power;
pub mod report;
pub mod rtc;
pub mod samples;
pub mod seed;
pub mod services;
pub mod setup;
pub mod signals;
pub mod status;
pub mod statusfile;
pub mod stop;
pub mod sys;
pub mod timechannel;
pub mod timers;
pub mod uevent;
pub mod vmclock;
