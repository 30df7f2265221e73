//! Composes the inputs of an image and hands them to `noonmark-image`.

pub mod image;
pub mod init;
pub mod kernel;
mod nic;
pub mod packages;
pub mod peer;
mod provenance;
pub mod stub;
