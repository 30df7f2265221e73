//! What commands need from the host: looked for first, and installed only where it is missing.

mod install;

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use noonmark_qemu::{Qemu, QemuError, accel, kvm_host};
use xshell::{Shell, cmd};

use crate::apt::Apt;
use crate::exec;
use crate::progress;
use crate::toolchain::{self, Environment};
use crate::workspace::Workspace;

/// The target that the guest's programs are compiled for.
pub const GUEST_TARGET: &str = "x86_64-unknown-linux-musl";

/// The package with the QEMU that runs guests.
const QEMU: &str = "qemu-system-x86";

/// Programs by which tests read disks, file systems and archives, each with the package that has it.
const DISK_TOOLS: &[(&str, &str)] = &[
    ("sgdisk", "gdisk"),
    ("fsck.fat", "dosfstools"),
    ("mcopy", "mtools"),
    ("isoinfo", "genisoimage"),
    ("objdump", "binutils"),
    ("cpio", "cpio"),
    ("python3", "python3"),
    ("qemu-img", "qemu-utils"),
    ("tar", "tar"),
];

/// Where administrators' programs are, which a user's `PATH` may lack.
const ADMINISTRATORS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// One thing that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prerequisite {
    /// A QEMU for x86-64: the one named, else the distribution's.
    Qemu(Option<PathBuf>),
    /// Rust's standard library for [`GUEST_TARGET`].
    GuestTarget,
    /// `rustfmt` and `clippy`.
    TestTools,
    /// What tests read disks, file systems and archives with.
    DiskTools,
}

/// Whether a prerequisite is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there: its version, path or the like.
    Present(String),
    /// It isn't; the command that installs it.
    Missing(String),
}

impl Prerequisite {
    /// What it is called in a table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Qemu(_) => "QEMU",
            Self::GuestTarget => "Rust target for the guest",
            Self::TestTools => "rustfmt and clippy",
            Self::DiskTools => "programs that read disks",
        }
    }

    /// Looks for it; changes nothing.
    ///
    /// # Errors
    ///
    /// It can't be told, or it was named and isn't there.
    pub fn find(&self, workspace: &Workspace) -> Result<Presence> {
        let shell = shell(workspace)?;
        match self {
            Self::Qemu(named) => match Qemu::find(named.as_deref()) {
                Ok(qemu) => Ok(Presence::Present(format!(
                    "{} {}",
                    qemu.path().display(),
                    qemu.version()
                ))),
                // Only the distribution's own QEMU can be installed, not one that was named.
                Err(QemuError::NotFound { .. }) if named.is_none() => {
                    Ok(Presence::Missing(format!("apt-get install {QEMU}")))
                }
                Err(error) => Err(error.into()),
            },
            Self::GuestTarget => {
                let library = toolchain::sysroot(workspace)?
                    .join("lib/rustlib")
                    .join(GUEST_TARGET)
                    .join("lib");
                Ok(if library.is_dir() {
                    Presence::Present(GUEST_TARGET.to_owned())
                } else {
                    Presence::Missing(format!("rustup target add {GUEST_TARGET}"))
                })
            }
            Self::DiskTools => Ok(match missing_disk_tools().as_slice() {
                [] => Presence::Present("in the PATH".to_owned()),
                packages => Presence::Missing(format!("apt-get install {}", packages.join(" "))),
            }),
            Self::TestTools => {
                let works =
                    |command| exec::outcome(command).is_ok_and(|output| output.status.success());
                let there = works(cmd!(shell, "cargo fmt --version"))
                    && works(cmd!(shell, "cargo clippy --version"));
                Ok(if there {
                    Presence::Present("with the toolchain".to_owned())
                } else {
                    Presence::Missing("rustup component add rustfmt clippy".to_owned())
                })
            }
        }
    }

    /// Installs it where it is missing, saying so.
    ///
    /// # Errors
    ///
    /// It can't be had; the error says what to do by hand.
    pub fn ensure(&self, workspace: &Workspace) -> Result<()> {
        let Presence::Missing(_) = self.find(workspace)? else {
            return Ok(());
        };
        let shell = shell(workspace)?;
        match self {
            Self::Qemu(_) => {
                install::install(workspace, &[QEMU], "QEMU runs the guest", qemu_suits)?;
            }
            Self::DiskTools => install::install(
                workspace,
                &missing_disk_tools(),
                "tests read what noonmark writes with other programs",
                |_| Ok(()),
            )?,
            Self::GuestTarget => rustup(
                Environment::own().run(cmd!(shell, "rustup target add {GUEST_TARGET}")),
                "Rust's library for the guest",
            )?,
            Self::TestTools => rustup(
                cmd!(shell, "rustup component add rustfmt clippy"),
                "rustfmt and clippy",
            )?,
        }
        match self.find(workspace)? {
            Presence::Present(_) => Ok(()),
            Presence::Missing(way) => {
                bail!(
                    "{} is still missing after it was installed; try: {way}",
                    self.name()
                )
            }
        }
    }
}

/// Installs all that is missing.
///
/// # Errors
///
/// As [`Prerequisite::ensure`].
pub fn ensure(workspace: &Workspace, prerequisites: &[Prerequisite]) -> Result<()> {
    if kvm_host::inside().is_some() {
        // An emulated host has what it was made with.
        return Ok(());
    }
    prerequisites
        .iter()
        .try_for_each(|prerequisite| prerequisite.ensure(workspace))
}

/// Whether the machine is well served by the QEMU of what a release has: one without hardware
/// virtualization wants one that can emulate a KVM host.
fn qemu_suits(release: &Apt) -> Result<(), String> {
    let version = match release.candidate(QEMU) {
        Ok(Some(package)) => package.version,
        // Its installation will tell.
        Ok(None) | Err(_) => return Ok(()),
    };
    let upstream = version.split_once(':').map_or(&*version, |(_, rest)| rest);
    if accel::processor_virtualizes() || kvm_host::is_sound(upstream) {
        return Ok(());
    }
    Err(format!(
        "QEMU {upstream} can emulate no KVM host, and this processor has no hardware virtualization"
    ))
}

/// The packages of those [`DISK_TOOLS`] that aren't there.
fn missing_disk_tools() -> Vec<&'static str> {
    let search = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&search)
        .chain(ADMINISTRATORS.map(PathBuf::from))
        .collect();
    DISK_TOOLS
        .iter()
        .filter(|(program, _)| !folders.iter().any(|folder| folder.join(program).is_file()))
        .map(|(_, package)| *package)
        .collect()
}

fn shell(workspace: &Workspace) -> Result<Shell> {
    let shell = Shell::new().context("cannot tell the current folder")?;
    shell.change_dir(workspace.root());
    Ok(shell)
}

fn rustup(command: xshell::Cmd<'_>, what: &str) -> Result<()> {
    let line = command.to_string();
    let step = progress::step(format!("{line}: {what}"));
    exec::read(command).with_context(|| {
        format!(
            "{what} can't be installed by rustup; if this toolchain is not rustup's, install it by \
             the means that the toolchain came by"
        )
    })?;
    step.done(format!("installed {what}"));
    Ok(())
}
