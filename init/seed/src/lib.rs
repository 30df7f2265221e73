//! The seed's reader: everything that meets the bytes of a foreign disk, kept out of PID 1.
//!
//! The program `noonmark-seed` runs it as a short-lived child without rights; PID 1 takes in only
//! its [`Verdict`](noonmark_contract::seed::verdict::Verdict), and checks that again. Nothing here
//! writes to a disk, and no file system of a seed is ever mounted: FAT and ISO 9660 are read in user
//! space.
//!
//! From the disks to the verdict:
//!
//! - [`nocloud`] finds the one disk that is labelled `CIDATA`, or OpenStack's [`config_drive`], and reads
//!   the files on it through [`volume`].
//! - [`credentials`] knows the documents and names that a hypervisor gives without a disk.
//! - Each file is a document with a reader of its own, which puts what it takes from it into an
//!   [`Instance`](noonmark_contract::seed::instance::Instance) of its own, so that one that is wrong
//!   takes no other with it: [`meta_data`], [`network_config`], and [`user_data`], whose parts are
//!   [`cloud_config`]s, which [`merge`] puts together, scripts, and [`noonmark_config`]s;
//!   [`instances`] keeps what user-data and vendor-data say apart.
//! - These stand on [`yaml`] and [`json`], which make a bounded tree of a document, on [`value`], which says what
//!   a node of it must be, on [`content`], which decodes base64, gzip and UTF-16, and on [`root`],
//!   which knows what the image has.
//! - `Instance::check` says what no seed may have, whichever document asks for it; PID 1 calls it too.

pub mod cloud_config;
pub mod config_drive;
pub mod content;
pub mod credentials;
pub mod instances;
pub mod json;
pub mod merge;
pub mod meta_data;
pub mod network_config;
pub mod nocloud;
pub mod noonmark_config;
pub mod root;
pub mod user_data;
pub mod value;
pub mod volume;
pub mod yaml;
