//! The commands, one a file.

pub mod bench;
mod evidence;
pub mod example;
pub mod image;
pub mod lock;
pub mod options;
pub mod outputs;
pub mod recover;
pub mod report;
pub mod reproduce;
pub mod run;
pub mod seed;
pub mod setup;
pub mod status;
pub mod test;
pub mod time_server;
