//! The seed's reader: everything that meets the bytes of a foreign disk, kept out of PID 1.
//!
//! The program `noonmark-seed` runs it as a short-lived child without rights; PID 1 takes in only
//! its [`Verdict`](noonmark_contract::seed::verdict::Verdict), and checks that again. Nothing here
//! writes to a disk, and no file system of a seed is ever mounted: FAT and ISO 9660 are read in user
//! space.

pub mod cloud;
pub mod content;
pub mod fat;
pub mod iso;
pub mod read;
pub mod toml;
pub mod volume;
pub mod yaml;
