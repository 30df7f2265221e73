//! PID 1 of the guest: a shell of I/O around [`noonmark_sync::engine::Engine`]. It turns what the
//! kernel says into the engine's inputs, carries out the engine's actions, runs the services, and
//! reports.
//!
//! | module | job |
//! |---|---|
//! | [`pid1`] | the loop, its state, and the epoll that it waits on |
//! | [`boot`] | once, before the first service: file systems, configuration, modules, data disks, hardening |
//! | [`instance`] | the seed of this instance: found, read by a program without rights, applied |
//! | [`clock`] | the engine's sources and actuators: PHCs, VMClock, time channel, NTP socket, RTC, `adjtimex` |
//! | [`services`] | the supervisor, and the processes, control groups and output that it decides on |
//! | [`status`] | what is reported: to the host, to the guest's programs, to the kernel's log |
//! | [`machine`] | uevents, the power button, signals, the guest agent, the freeze for a snapshot, and the machine's end |
//! | [`helper`] | threads beside the loop |
//!
//! A turn of the loop: what is due is done, the clock first; services are frozen, thawed or signalled
//! where the clock's state asks for it; what happened is reported; at most one service is started; then
//! PID 1 waits for the next event or deadline, with a look at the clock at each tick. The order is that
//! of urgency, because nothing may delay a correction.
//!
//! There is one loop, and threads beside it for nothing but what a disk can hold up in the kernel:
//! mounting, and writing out at the end. Nothing in it waits without a deadline, and nothing that a
//! host, a service or a device does can end it.

pub mod boot;
pub mod clock;
pub mod helper;
pub mod instance;
pub mod machine;
pub mod pid1;
pub mod services;
pub mod status;
pub mod token_bucket;
