//! The seed's reader: everything that meets the bytes of a foreign disk, kept out of PID 1.
//!
//! The program `noonmark-seed` runs it as a short-lived child without rights; PID 1 takes in only
//! its [`Verdict`](noonmark_contract::seed::verdict::Verdict), and checks that again. Nothing here
//! writes to a disk, and no file system of a seed is ever mounted: FAT and ISO 9660 are read in user
//! space.
//!
//! From the disks to the verdict:
//!
//! - [`nocloud`] finds the one disk that is labelled `CIDATA`, and reads the files in its root folder
//!   through [`volume`].
//! - Each file is a document with a reader of its own, which puts what it takes from it into one
//!   [`Instance`](noonmark_contract::seed::instance::Instance): [`meta_data`], [`network_config`], and
//!   [`user_data`], which is a [`cloud_config`] or a [`noonmark_config`].
//! - These stand on [`yaml`], which makes a bounded tree of a document, on [`value`], which says what
//!   a node of it must be, and on [`content`], which decodes base64 and gzip.
//! - `Instance::check` says what no seed may have, whichever document asks for it; PID 1 calls it too.

pub mod cloud_config;
pub mod content;
pub mod meta_data;
pub mod network_config;
pub mod nocloud;
pub mod noonmark_config;
pub mod user_data;
pub mod value;
pub mod volume;
pub mod yaml;
