//! A virtual machine: its configuration, its QEMU process, its sockets and its end.

pub mod config;
