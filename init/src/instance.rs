//! What makes this machine differ from others of its image: a seed is looked for, read, and applied
//! between the clock's first correction and the first service.

pub mod apply;
mod events;
pub mod files;
pub mod reader;
pub mod search;
