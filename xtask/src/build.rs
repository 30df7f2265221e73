//! Composes the inputs of an image and hands them to `noonmark-image`.

pub mod image;
mod init;
mod kernel;
mod packages;
mod stub;
