//! `--accel nested`: the same command once more, in an emulated KVM host.
//!
//! The command builds its images on this machine. Where KVM is to be emulated, it then boots the
//! emulated host ([`run()`]), sends it these images and its own command line, and shows what the
//! command prints there. In the emulated host an [`agent`] takes these orders. What goes over the port
//! between the two is in [`frame`].

pub mod agent;
mod frame;
mod input;
mod port;
mod relay;
mod requests;
mod run;
mod terminal;

pub use frame::SHARES;
pub use run::{Errand, Stop, run};
