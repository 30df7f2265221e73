//! `image`: builds an image and says what it is made of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use noonmark_builder::exec;
use noonmark_builder::image::{self, BuildRequest, Variant};
use noonmark_builder::prerequisites::{self, Prerequisite};
use noonmark_builder::progress;
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::workspace::Workspace;
use noonmark_image::artifact::DISK;
use xshell::{Shell, cmd};

use crate::options::SpecFile;

/// The file name of a disk in QEMU's own format.
const QCOW2: &str = "disk.qcow2";

/// Builds the guest image that guest.toml describes.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask image --out /tmp/image")]
pub struct ImageCommand {
    #[command(flatten)]
    spec: SpecFile,
    /// Where the image goes [default: target/noonmark/image/base, .../test, .../run, ...].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Build the image for experiments, which has the program that disturbs the clock.
    #[arg(long)]
    test: bool,
    /// Build the image that runs commands over virtio-serial ports, as `cargo xtask run -- COMMAND` boots.
    #[arg(long)]
    commands: bool,
    /// The same with a kernel that can mount folders of the host, as with `cargo xtask run --share`.
    #[arg(long, requires = "commands")]
    shares: bool,
    /// Take the packages of guest.lock and no others.
    #[arg(long)]
    locked: bool,
    /// The disk's format; qcow2 is made beside the raw one.
    #[arg(long, value_enum, default_value_t = Format::Raw, conflicts_with_all = ["test", "commands"])]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Raw,
    Qcow2,
}

impl ImageCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        if self.format == Format::Qcow2 {
            prerequisites::ensure(workspace, &[Prerequisite::QemuImg])?;
        }
        let _lock = StateLock::acquire(workspace)?;
        let variant = match (self.commands, self.test) {
            (true, faults) => Variant::Run {
                shares: self.shares,
                faults,
            },
            (false, true) => Variant::Test,
            (false, false) => Variant::Base,
        };
        let spec_file = self.spec.path(workspace);
        let mut request = BuildRequest::new(workspace, &spec_file, variant);
        request.locked = self.locked;
        if let Some(folder) = self.out {
            request.folder = folder;
        }
        let image = image::build(workspace, &request)?;
        if self.format == Format::Qcow2 {
            qcow2(&image.folder)?;
        }
        let state = if image.rebuilt { "built" } else { "up to date" };
        println!("{} ({state})", Workspace::short(&image.folder).display());
        for (name, size) in &image.artifacts {
            println!("{:>8} KiB  {name}", size.div_ceil(1024));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Converts the disk; the result appears under its name only when it is whole.
fn qcow2(folder: &Path) -> Result<()> {
    let shell = Shell::new().context("cannot tell the current folder")?;
    let (raw, whole) = (folder.join(DISK), folder.join(QCOW2));
    let partial = folder.join(format!(".{QCOW2}.part"));
    let step = progress::step(format!("writing {}", Workspace::short(&whole).display()));
    let converted = exec::read(cmd!(
        shell,
        "qemu-img convert -f raw -O qcow2 {raw} {partial}"
    ))
    .and_then(|_| {
        fs::rename(&partial, &whole).with_context(|| format!("cannot write {}", whole.display()))
    });
    if converted.is_err() {
        // The file may not exist, if qemu-img failed early.
        let _ = fs::remove_file(&partial);
    }
    converted?;
    step.vanish();
    println!("{}", Workspace::short(&whole).display());
    Ok(())
}
