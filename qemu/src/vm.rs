//! A virtual machine: its configuration, its QEMU process, and what can be done with it.
//!
//! From the bottom up: what a machine is made of (`config`, `forward`, `nic`), QEMU's arguments for it
//! (`argv`), one QEMU process (`instance`) and how it is started (`spawn`), the machine (`machine`),
//! and what further can be done with one (`command`, `hotplug`, `migrate`, `power`).

pub mod argv;
pub(crate) mod command;
pub(crate) mod config;
pub(crate) mod error;
pub(crate) mod exit;
pub(crate) mod forward;
mod hotplug;
mod instance;
pub(crate) mod machine;
mod migrate;
pub mod nic;
pub(crate) mod power;
mod spawn;
pub(crate) mod timeouts;
