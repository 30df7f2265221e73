//! Spec, lock and files in, image bytes out: one pure function of its inputs.
//!
//! From `guest.toml` to a disk's bytes, in the order to read it:
//!
//! 1. [`spec`] is what `guest.toml` says, and [`lock`] what `guest.lock` pins; [`text`] says where in
//!    either something is wrong. [`content`] reads the trees, packages and programs that go in: [`lookup`]
//!    follows links in them, [`package`] unpacks a distribution's by [`archive`], and [`loader`] finds a
//!    program's libraries by what [`elf`] says of them and [`ldconf`] of their root.
//! 2. [`deb`] reads a distribution's packages. [`kernel`] takes out of them the bzImage ([`bzimage`])
//!    and the modules that the spec wants, with all that these need ([`modules`]); [`uki`] takes the
//!    EFI stub, and [`program`] a daemon with its libraries.
//! 3. [`build`] makes the artifacts of all [`inputs`]. [`initrd`] lays out the tree, in which
//!    [`layout`] says where noonmark's own files are; [`exec`] refuses services that nothing could start;
//!    [`cpio`] and [`compress`] make it an initrd.
//!    With it and the kernel's [`cmdline`] [`uki`] makes the unified kernel image, the only file of
//!    the EFI system partition that [`fat`] writes and around which [`disk`] puts a partition table.
//!    [`formats`] has that disk as hypervisors and clouds want it, [`libvirt`] the machine around it.
//! 4. [`budget`] refuses what is too large. [`manifest`] and [`sbom`] list what went in and came out,
//!    by [`hash`]; [`output`] puts it all into a folder.
//!
//! Beside that way: [`seed`] makes a seed disk, by [`fat`] or [`iso`], and [`diff`] finds where two outputs differ.
//!
//! Only [`spec::Spec::load_files`], [`content`], [`kernel::Kernel::from_files`] and [`output`] touch the file
//! system; everything else is bytes to bytes, reads no clock, draws no random number and asks the
//! environment nothing, so that the same inputs give the same bits on every machine.

#![forbid(unsafe_code)]

pub mod archive;
pub mod artifact;
pub mod budget;
pub mod build;
pub mod bzimage;
pub mod cmdline;
pub mod compress;
pub mod content;
pub mod cpio;
pub mod deb;
pub mod diff;
pub mod disk;
pub mod elf;
pub mod exec;
pub mod fat;
pub mod formats;
pub mod hash;
pub mod initrd;
pub mod inputs;
pub mod iso;
mod json;
pub mod kernel;
pub mod layout;
pub mod ldconf;
pub mod libvirt;
pub mod loader;
pub mod lock;
pub mod lookup;
pub mod manifest;
pub mod modules;
pub mod output;
pub mod package;
pub mod program;
pub mod sbom;
pub mod seed;
pub mod spec;
pub mod text;
pub mod uki;
