//! Spec, lock and files in, image bytes out: one pure function of its inputs.
//!
//! Only [`spec::Spec::load_files`], [`kernel::Kernel::from_files`] and [`output`] touch the file
//! system; everything else is bytes to bytes, reads no clock, draws no random number and asks the
//! environment nothing, so that the same inputs give the same bits on every machine.

#![forbid(unsafe_code)]

pub mod build;
pub mod bzimage;
pub mod compress;
pub mod cpio;
pub mod deb;
pub mod diff;
pub mod disk;
pub mod fat;
pub mod hash;
pub mod initrd;
pub mod kernel;
pub mod lock;
pub mod manifest;
pub mod modules;
pub mod output;
pub mod program;
pub mod sbom;
pub mod seed;
pub mod sizes;
pub mod spec;
pub mod text;
pub mod uki;
