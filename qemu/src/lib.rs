//! The host's side of a noonmark guest: QEMU machines, their ports, and experiments on them.

pub mod accel;
pub mod experiment;
pub mod lines;
pub mod program;
pub mod signals;
pub mod vm;
