//! The host: what a command needs from it, and how that gets there.

pub mod apt;
mod install;
pub mod licences;
pub mod lock;
pub mod needs;
mod sources;
