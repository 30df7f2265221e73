//! Composes the inputs of an image and hands them to `noonmark-image`: packages fetched and pinned,
//! the guest's programs compiled, and what the machine needs for that.

pub mod exec;
pub mod host;
pub mod image;
pub mod kernel;
mod nic;
pub mod packages;
pub mod peer;
pub mod programs;
pub mod progress;
mod provenance;
pub mod stub;
pub mod workspace;
