//! Compiles the guest's programs: static, small, and the same bits wherever the checkout lies.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::Shell;

use crate::exec;
use crate::prerequisites::GUEST_TARGET;
use crate::progress;
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;

/// Relative relocations in the form that takes a twentieth of the space; musl applies it from 1.2.4 on.
const PACKED: &str = "-Clink-arg=--pack-dyn-relocs=relr";

/// The cargo profile in the workspace's `Cargo.toml` that the guest's programs are built with.
const PROFILE: &str = "guest";

/// The packages that those programs are in, each program of a package of its own but for the
/// testbed's two.
pub const GUEST_PACKAGES: [&str; 8] = [
    "noonmark-init",
    "noonmark-seed",
    "noonmark-net",
    "noonmark-ntp",
    "noonmark-nts",
    "noonmark-agent",
    "noonmark-run",
    "noonmark-testbed",
];

/// The guest's programs by their names.
pub(crate) const NAMES: [&str; 8] = [
    "noonmark-init",
    "noonmark-fault",
    "noonmark-net",
    "noonmark-ntp",
    "noonmark-nts",
    "noonmark-agent",
    "noonmark-run",
    "noonmark-seed",
];

/// The guest's programs.
#[derive(Debug)]
pub(crate) struct Programs {
    /// PID 1.
    pub init: Vec<u8>,
    /// The program of test images that disturbs the clock.
    pub fault: Vec<u8>,
    /// What sets up the network, of images that have one.
    pub net: Vec<u8>,
    /// The NTP client, of images that name time servers.
    pub ntp: Vec<u8>,
    /// The same with NTS, of images that authenticate their time servers.
    pub nts: Vec<u8>,
    /// The guest agent, of images that have one.
    pub agent: Vec<u8>,
    /// What runs the host's commands, of images for them.
    pub run: Vec<u8>,
    /// What reads seed disks.
    pub seed: Vec<u8>,
}

impl Programs {
    /// All of them, each taken by its name.
    pub(crate) fn of(mut take: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let [init, fault, net, ntp, nts, agent, run, seed] = NAMES;
        Ok(Self {
            init: take(init)?,
            fault: take(fault)?,
            net: take(net)?,
            ntp: take(ntp)?,
            nts: take(nts)?,
            agent: take(agent)?,
            run: take(run)?,
            seed: take(seed)?,
        })
    }

    /// Each with its name, in the order of [`NAMES`].
    pub(crate) fn named(&self) -> Vec<(&'static str, &[u8])> {
        let bytes = [
            &self.init,
            &self.fault,
            &self.net,
            &self.ntp,
            &self.nts,
            &self.agent,
            &self.run,
            &self.seed,
        ];
        let pairs = NAMES.into_iter().zip(bytes);
        pairs
            .map(|(name, bytes)| (name, bytes.as_slice()))
            .collect()
    }
}

/// Takes the programs that this program brings along; else compiles what has changed.
///
/// # Errors
///
/// They don't compile, or a program has a path of this machine in it.
pub(crate) fn build(workspace: &Workspace) -> Result<Programs> {
    if let Some(bundle) = workspace.bundle() {
        let mut unpacked = bundle.unpack()?;
        return Programs::of(|name| {
            let bytes = unpacked.remove(name);
            bytes.with_context(|| format!("{name} is not in this program"))
        });
    }
    let compiled = Compiled::of(workspace, &GUEST_PACKAGES, "the guest's programs")?;
    Programs::of(|name| compiled.program(name))
}

/// Compiles an example appliance's program, which is named as its package, in the same way.
///
/// # Errors
///
/// As [`build`].
pub fn build_example(workspace: &Workspace, name: &str) -> Result<Vec<u8>> {
    Compiled::of(workspace, &[name], name)?.program(name)
}

/// A package compiled for the guest.
struct Compiled {
    folder: PathBuf,
    remaps: Remaps,
}

impl Compiled {
    fn of(workspace: &Workspace, packages: &[&str], shown: &str) -> Result<Self> {
        let toolchain = Toolchain::of(workspace)?;
        let remaps = Remaps::of(&toolchain, workspace);
        let target_dir = workspace.state().join("cargo");
        let packages = packages.iter().flat_map(|package| ["--package", package]);
        let arguments: Vec<OsString> = packages
            .chain(["--bins", "--profile", PROFILE, "--target", GUEST_TARGET])
            .map(OsString::from)
            .chain(["--target-dir".into(), target_dir.clone().into()])
            .collect();
        let step = progress::step(format!("building {shown} for {GUEST_TARGET}"));
        let shell = Shell::new().context("cannot tell the current folder")?;
        let cargo = toolchain.build(&shell, &arguments, &remaps.flags());
        exec::read(cargo).context("the guest's programs don't compile")?;
        step.vanish();
        Ok(Self {
            folder: target_dir.join(GUEST_TARGET).join(PROFILE),
            remaps,
        })
    }

    fn program(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        self.remaps.check(&path, &bytes)?;
        Ok(bytes)
    }
}

/// Folders of this machine, and what stands for them in the guest's programs.
struct Remaps(Vec<(PathBuf, &'static str)>);

impl Remaps {
    fn of(toolchain: &Toolchain, workspace: &Workspace) -> Self {
        // Of several that fit, rustc takes the last.
        let state = (workspace.state().to_path_buf(), "/noonmark/target/noonmark");
        let mut remaps = vec![state];
        remaps.extend(toolchain.folders());
        Self(remaps)
    }

    /// In cargo's encoding, which lets a path have blanks in it.
    fn flags(&self) -> String {
        let remaps = self.0.iter();
        let remaps =
            remaps.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
        let flags: Vec<String> = iter::once(PACKED.to_owned()).chain(remaps).collect();
        flags.join("\u{1f}")
    }

    /// Looks for this machine's folders in a program; also for the home folder, which none of the
    /// others need lie in.
    fn check(&self, program: &Path, bytes: &[u8]) -> Result<()> {
        let home = env::home_dir();
        let folders = self.0.iter().map(|(folder, _)| folder).chain(home.iter());
        for folder in folders {
            let name = folder.as_os_str().as_encoded_bytes();
            // `/` or `/root` alone say nothing of where this was built.
            if name.len() < 8 {
                continue;
            }
            if bytes.windows(name.len()).any(|window| window == name) {
                bail!(
                    "{} has the path {} of this machine in it, so it would differ on another one; \
                     whatever puts it there (a dependency's build script?) must go",
                    program.display(),
                    folder.display()
                );
            }
        }
        Ok(())
    }
}
