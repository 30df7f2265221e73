//! The build itself: spec, kernel, programs and files in, artifacts out.

use crate::kernel::Kernel;
use crate::spec::{LoadedFile, Spec};

/// The file name of the kernel for direct boot.
pub const KERNEL: &str = "vmlinuz";
/// The file name of the initrd for direct boot.
pub const INITRD: &str = "initrd.img";
/// The file name of the kernel command line for direct boot, one line.
pub const CMDLINE: &str = "cmdline";

/// Everything that an image is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What the image is to be.
    pub spec: &'a Spec,
    /// The kernel with the modules that the spec wants.
    pub kernel: &'a Kernel,
    /// PID 1's program, a static ELF executable.
    pub init: &'a [u8],
    /// The fault program: given for a test image, none for a base image. Nothing else tells a
    /// test image from a base image.
    pub fault: Option<&'a [u8]>,
    /// The `[[file]]` contents, from [`Spec::load_files`].
    pub files: &'a [LoadedFile],
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its file name, e.g. [`INITRD`].
    pub name: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What a build gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// The kernel command line for direct boot; the same as artifact [`CMDLINE`].
    pub cmdline: String,
    /// The files, in a fixed order.
    pub artifacts: Vec<Artifact>,
}
