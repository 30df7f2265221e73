//! The commands, one a file; what only one of them needs lies in the folder of its name.

pub mod bench;
pub mod example;
pub mod image;
pub mod init;
pub mod lock;
pub mod recover;
pub mod report;
pub mod reproduce;
pub mod run;
pub mod seed;
pub mod setup;
pub mod status;
pub mod test;
pub mod time_server;
