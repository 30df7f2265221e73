//! The emulated KVM host: a guest image of ours in which the distribution's kernel has KVM, and whose
//! one service is this program with the QEMU that is to run there.
//!
//! All that is in it is in its initrd, so nothing of this machine can be written from inside, and
//! whoever may run QEMU may use it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use noonmark_image::artifact::{CMDLINE, INITRD, KERNEL};
use noonmark_image::lock::Role;
use noonmark_image::spec::Description;
use noonmark_qemu::process::LAUNCHER;
use noonmark_qemu::{Boot, Qemu, find_in_path};

use crate::dependencies::Follow;
use crate::image::{self, BuildInputs};
use crate::installed::InstalledFiles;
use crate::kernel::{self, FetchedKernel};
use crate::packaged;
use crate::packages::{Pins, Request};
use crate::progress;
use crate::store::Place;
use crate::workspace::Workspace;

/// What the image is, but for the files.
const SPEC: &str = include_str!("kvm_host.toml");

/// Kernels for virtual machines may lack KVM, so these are the distributions' general ones.
const DEBIAN_KERNEL: &str = "linux-image-amd64";
const UBUNTU_KERNEL: &str = "linux-image-generic";

/// Where the program is in the image that takes its orders.
const AGENT: &str = "/usr/bin/noonmark-kvm-host";

/// What QEMU's x86 machines load from its data folders.
const FIRMWARE: [&str; 3] = ["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin"];

/// What keeps the host's clock in experiments, by package.
const TIME_DAEMONS: [(&str, &str); 2] = [
    ("chrony", "usr/sbin/chronyd"),
    ("linuxptp", "usr/sbin/ptp4l"),
];

/// The request for its kernel, from a suite or the machine's own.
pub fn request(suite: Option<&str>) -> Request<'_> {
    Request {
        role: Role::Host,
        name: if kernel::is_ubuntu() {
            UBUNTU_KERNEL
        } else {
            DEBIAN_KERNEL
        },
        suite,
        follow: Follow::Named(kernel::carries_kernel),
    }
}

/// Builds it where it is stale, and gives what to boot.
///
/// # Errors
///
/// Its kernel can't be fetched, or QEMU can't be taken apart from its libraries.
pub fn build(workspace: &Workspace, qemu: &Qemu, suite: Option<&str>, pins: &Pins) -> Result<Boot> {
    let file = Path::new("kvm_host.toml");
    let description = Description::new(SPEC.to_owned(), file)?;
    let mut files = InstalledFiles::default();
    files.add_program(qemu.path())?;
    for path in firmware(qemu)? {
        files.add_file(&path, 0o644)?;
    }
    let launcher = find_in_path(LAUNCHER)
        .with_context(|| format!("there is no {LAUNCHER} (package util-linux)"))?;
    files.add_program(&launcher)?;
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    files.add_program(&own)?;
    for (package, path) in TIME_DAEMONS {
        let loaded = packaged::fetch(workspace, package)
            .and_then(|packages| packaged::program(workspace, &packages, path));
        match loaded {
            Ok(loaded) => files.add_loaded(loaded),
            // An experiment that needs it says so again.
            Err(error) => progress::note(format!("the host goes without {package}: {error:#}")),
        }
    }
    files.add_loaded([packaged::text("/etc/passwd", packaged::PASSWD)]);
    let mut files = files.into_files();
    if let Some(agent) = files.iter_mut().find(|file| file.spec.source == own) {
        agent.spec.path = AGENT.to_owned();
    }
    let kernel = FetchedKernel::packages(workspace, request(suite), pins)?;
    let place = Place::Kept(workspace.state().join("image").join("kvm-host"));
    let inputs = BuildInputs::plain(workspace, description, files, kernel)?;
    let image = image::make(workspace, inputs, "emulated KVM host's", &place)?;
    let artifact = |name: &str| image.folder.join(name);
    Ok(Boot::direct(
        artifact(KERNEL),
        artifact(INITRD),
        &artifact(CMDLINE),
    )?)
}

/// Where this QEMU has the files of [`FIRMWARE`]: it lists the folders that it searches.
fn firmware(qemu: &Qemu) -> Result<Vec<PathBuf>> {
    let output = Command::new(qemu.path())
        .args(["-L", "help"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", qemu.path().display()))?;
    let folders = String::from_utf8_lossy(&output.stdout);
    FIRMWARE
        .iter()
        .map(|name| {
            let found = folders
                .lines()
                .map(|folder| Path::new(folder.trim()).join(name))
                .find(|path| path.is_file());
            match found {
                Some(path) => Ok(path),
                None => bail!(
                    "{} has no {name} in {}",
                    qemu.path().display(),
                    folders.lines().collect::<Vec<_>>().join(", ")
                ),
            }
        })
        .collect()
}
