//! A virtual machine: its configuration, its QEMU process, its sockets and its end.

pub mod argv;
mod birth;
pub mod config;
pub mod console;
pub mod death;
pub mod error;
pub mod hotplug;
pub mod machine;
mod moving;
pub mod power;
pub mod process;
pub mod rundir;
