//! `image`: builds an image and says what it is made of.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use noonmark_builder::image::{self, BuildRequest, Image, Variant};
use noonmark_builder::progress;
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::store::Place;
use noonmark_builder::workspace::Workspace;
use noonmark_image::artifact::DISK;
use noonmark_image::formats::DiskFormat;
use noonmark_image::hash::Sha256Hex;
use noonmark_image::libvirt;
use noonmark_image::output;

use crate::options::SpecFile;

/// Builds the guest image that guest.toml describes.
#[derive(Debug, Args)]
#[command(after_help = "Examples: cargo xtask image --out /tmp/image
          cargo xtask image --format qcow2,vhd
          cargo xtask image --containerdisk --libvirt")]
pub struct ImageCommand {
    #[command(flatten)]
    spec: SpecFile,
    /// Where the image goes [default: target/noonmark/image/base, .../test, .../run, ...;
    /// for another description target/noonmark/image/FILE/base, ...].
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
    /// A format of the disk; all but raw are made beside the raw one, and may be several. vmdk is
    /// stream-optimized, as OVF packages have it; vhd of fixed size, as Azure wants it; tar.gz is Google
    /// Compute Engine's.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "FORMAT",
        conflicts_with_all = ["test", "commands"]
    )]
    format: Vec<Format>,
    /// Write the disk as a container image, too, as KubeVirt's containerDisk takes it: an archive of an OCI
    /// image layout, for `skopeo copy oci-archive:containerdisk.tar docker://...`.
    #[arg(long, conflicts_with_all = ["test", "commands"])]
    containerdisk: bool,
    /// Write a libvirt domain, too, that boots the disk where it is now: for `virsh define domain.xml`.
    #[arg(long, conflicts_with_all = ["test", "commands"])]
    libvirt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Raw,
    Qcow2,
    Vmdk,
    Vhd,
    Vdi,
    #[value(name = "tar.gz")]
    TarGz,
}

impl Format {
    fn beside_raw(self) -> Option<DiskFormat> {
        match self {
            Self::Raw => None,
            Self::Qcow2 => Some(DiskFormat::Qcow2),
            Self::Vmdk => Some(DiskFormat::Vmdk),
            Self::Vhd => Some(DiskFormat::Vhd),
            Self::Vdi => Some(DiskFormat::Vdi),
            Self::TarGz => Some(DiskFormat::TarGz),
        }
    }
}

impl ImageCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
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
            request.place = Place::Folder(folder);
        }
        let image = image::build(workspace, &request)?;
        let state = if image.rebuilt { "built" } else { "up to date" };
        println!("{} ({state})", Workspace::short(&image.shown).display());
        for (name, size) in &image.artifacts {
            println!("{:>8} KiB  {name}", size.div_ceil(1024));
        }
        let beside = self.format.iter().filter_map(|format| format.beside_raw());
        let container = self.containerdisk.then_some(DiskFormat::ContainerDisk);
        for format in beside.chain(container) {
            convert(&image, format)?;
        }
        if self.libvirt {
            write_domain(&image)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the disk in this format beside the raw one.
fn convert(image: &Image, format: DiskFormat) -> Result<()> {
    let raw = image.folder.join(DISK);
    let path = image.folder.join(format.file_name());
    let disk = fs::read(&raw).with_context(|| format!("cannot read {}", raw.display()))?;
    let shown = image.shown.join(format.file_name());
    let step = progress::step(format!("writing {}", Workspace::short(&shown).display()));
    let bytes = format
        .write(&disk, image.spec.image.source_date_seconds())
        .with_context(|| format!("{} can't be {}", raw.display(), format.file_name()))?;
    output::write_file(&path, &bytes)?;
    step.vanish();
    let size = bytes.len().div_ceil(1024);
    println!(
        "{size:>8} KiB  {}, SHA-256 {}",
        format.file_name(),
        Sha256Hex::of(&bytes)
    );
    Ok(())
}

/// Writes the domain beside the disk.
fn write_domain(image: &Image) -> Result<()> {
    let disk =
        std::path::absolute(image.folder.join(DISK)).context("cannot tell the current folder")?;
    let disk = disk.to_str().with_context(|| {
        let disk = disk.display();
        format!("{disk}: a domain can't name a file whose path is no UTF-8; choose another --out")
    })?;
    let text = libvirt::domain(&image.spec, disk);
    output::write_file(&image.folder.join(libvirt::FILE_NAME), text.as_bytes())?;
    println!(
        "{:>8} KiB  {}",
        text.len().div_ceil(1024),
        libvirt::FILE_NAME
    );
    Ok(())
}
