//! The host's side of a noonmark guest: QEMU machines, their ports, and experiments on them.

pub mod accel;
pub mod firmware;
pub mod hub;
pub mod lines;
pub mod manner;
mod outbox;
pub mod port;
pub mod program;
pub mod qmp;
pub mod registry;
pub mod signals;
pub mod time_server;
pub mod vm;
