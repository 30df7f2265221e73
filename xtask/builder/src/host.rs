//! The host: what a command needs from it, and how that gets there.

pub mod apt;
pub mod install;
pub mod lock;
pub mod needs;
mod sources;
