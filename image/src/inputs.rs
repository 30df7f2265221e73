//! Everything that an image is made of.

use noonmark_contract::config::system::SEED_PROGRAM;
use serde::{Deserialize, Serialize};

use crate::cpio::Tree;
use crate::deb::PackageId;
use crate::hash::Sha256Hex;
use crate::kernel::Kernel;
use crate::layout::{
    AGENT_PROGRAM, FAULT_PROGRAM, INIT_PROGRAM, NET_PROGRAM, NTP_PROGRAM, RUN_PROGRAM,
};
use crate::spec::{LoadedFile, Spec};
use crate::uki::Stub;

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
    /// The program that sets up the network; it goes in where the spec asks for a network.
    pub net: &'a [u8],
    /// The NTP client; it goes in where the spec names time servers.
    pub ntp: &'a [u8],
    /// The NTP client with NTS; it goes in instead where the spec wants servers authenticated.
    pub nts: &'a [u8],
    /// The guest agent; it goes in where the spec enables it.
    pub agent: &'a [u8],
    /// The program that reads seeds; it goes in where the spec lets an image have one.
    pub seed: &'a [u8],
    /// The program that runs the host's commands: given for an image for them, none for any other.
    pub run: Option<&'a [u8]>,
    /// The `[[file]]` contents, from [`Spec::load_files`].
    pub files: &'a [LoadedFile],
    /// What `[[package]]`, `[[program]]`, `[[tree]]`, `[[symlink]]` and `[[dir]]` give, from
    /// [`crate::content::load`].
    pub content: &'a Tree,
    /// The packages of which some of that is.
    pub packages: &'a [PackageId],
    /// The EFI stub; none is an image for direct boot alone, without UKI and disk.
    pub stub: Option<&'a Stub>,
    /// What else it was made of, for the manifest.
    pub provenance: &'a Provenance,
}

/// What a build was made of beside the bytes that go into the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The files of the spec, each with its name and text.
    pub spec: Vec<(String, String)>,
    /// The compiler of the guest's programs, as `rustc --version` says it; none where they were
    /// not built here.
    pub rustc: Option<String>,
    /// The crates that the guest's programs are made of.
    pub crates: Vec<Crate>,
}

/// One crate of the guest's programs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, an SPDX expression.
    pub license: Option<String>,
    /// The hash of its package, as `Cargo.lock` has it; none for the workspace's own.
    pub sha256: Option<Sha256Hex>,
}

impl<'a> Inputs<'a> {
    /// noonmark's own programs that this image has, by their paths in the guest.
    pub fn programs(&self) -> impl Iterator<Item = (&'static str, &'a [u8])> {
        let spec = self.spec;
        let ntp = match spec.ntp.trusted_certs {
            Some(_) => self.nts,
            None => self.ntp,
        };
        let programs = [
            Some((INIT_PROGRAM, self.init)),
            self.fault.map(|fault| (FAULT_PROGRAM, fault)),
            self.run.map(|run| (RUN_PROGRAM, run)),
            spec.wants_network().then_some((NET_PROGRAM, self.net)),
            spec.wants_ntp().then_some((NTP_PROGRAM, ntp)),
            spec.agent.enabled.then_some((AGENT_PROGRAM, self.agent)),
            spec.seed.enabled.then_some((SEED_PROGRAM, self.seed)),
        ];
        programs.into_iter().flatten()
    }
}
