//! The commands, one a file.

pub mod image;
mod options;
pub mod setup;
