//! Composes the inputs of an image and hands them to `noonmark-image`.
//!
//! The way from a `guest.toml` to an image, in reading order:
//!
//! 1. [`workspace`] says where the checkout, the cache and the outputs are; [`state_lock`] keeps two
//!    commands from working on them at once.
//! 2. [`prerequisites`] installs what a build needs of the host and the host lacks.
//! 3. [`image`] reads the description and adapts it to the variant that is asked for: the shipped
//!    image as it is, [`peer`] and `nic` the guests of experiments.
//! 4. [`packages`] fetches distribution packages through `apt`, by the versions that `guest.lock`
//!    pins, with what they depend on ([`dependencies`]): [`kernel`], [`stub`] and [`peer`] say which ones,
//!    and unpack what the image needs; [`content`] those that the description names as its own.
//! 5. [`programs`] compiles the guest's programs by the [`toolchain`] that the checkout pins, with a
//!    [`cargo_home`] that has the user's crates and none of their settings for builds, or takes them from the [`bundle`] that an installed
//!    `noonmark` has ([`installable`] makes it); `provenance` records the compiler and the crates.
//! 6. [`image`] passes all of it to `noonmark_image::build`, unless the artifacts are up to date;
//!    [`store`] keeps them by what they are made of.
//! 7. [`run`] brings what a command needs in its guest.
//! 8. [`kvm_host`] makes an image of the same kind that is a KVM host, with this machine's QEMU in it.
//!
//! [`progress`] is the one module that prints, on standard error alone; [`exec`] runs other programs.

mod apt;
pub mod bundle;
pub mod cargo_home;
pub mod content;
pub mod dependencies;
pub mod distribution;
pub mod exec;
pub mod image;
pub mod installable;
mod installed;
pub mod kernel;
pub mod kvm_host;
mod nic;
pub mod packaged;
pub mod packages;
pub mod peer;
pub mod prerequisites;
pub mod programs;
pub mod progress;
mod provenance;
pub mod run;
mod stamp;
pub mod state_lock;
pub mod store;
pub mod stub;
pub mod toolchain;
pub mod workspace;
