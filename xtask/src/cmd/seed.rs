//! `seed`: makes a NoCloud volume, by which one instance gets its own name and configuration, or tells
//! what a guest would make of one.

mod check;
mod document;
mod partitions;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use noonmark_image::output;
use noonmark_image::seed::{self, Seed};

use document::read;

/// Makes a NoCloud seed disk (label CIDATA), the same bits for the same input, or checks one.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: cargo xtask seed --user-data user-data --meta-data meta-data -o seed.img\n          \
                  cargo xtask seed --check seed.img"
)]
pub struct SeedCommand {
    /// The instance's configuration.
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    user_data: Option<PathBuf>,
    /// The instance's id and host name, in YAML.
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    meta_data: Option<PathBuf>,
    /// The instance's network configuration.
    #[arg(long, value_name = "FILE")]
    network_config: Option<PathBuf>,
    /// What the platform says, which counts where user-data says nothing of it.
    #[arg(long, value_name = "FILE")]
    vendor_data: Option<PathBuf>,
    /// The disk image to write.
    #[arg(short, long, value_name = "FILE", required_unless_present = "check")]
    output: Option<PathBuf>,
    /// Tell what a guest would make of a seed: of a disk's image, with a partition table or without, of a
    /// folder with a seed's or a ConfigDrive's files, or of one document: user-data, or what the file is
    /// called. Exit status 1 where it would ignore or refuse something, or sees no seed.
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with_all = ["user_data", "meta_data", "network_config", "vendor_data", "output"]
    )]
    check: Option<PathBuf>,
    /// The file system of the disk: fat, or iso, which a CD-ROM drive takes too. With --check, in which
    /// form it tells: text or json. The first of either unless it is given.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Fat,
    Iso,
    Text,
    Json,
}

impl SeedCommand {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(path) = &self.check {
            let form = match self.format {
                None | Some(Format::Text) => check::Format::Text,
                Some(Format::Json) => check::Format::Json,
                Some(Format::Fat | Format::Iso) => {
                    bail!("--check makes no disk: its --format is text or json");
                }
            };
            return check::run(path, form);
        }
        let format = match self.format {
            None | Some(Format::Fat) => seed::Format::Fat,
            Some(Format::Iso) => seed::Format::Iso,
            Some(Format::Text | Format::Json) => {
                bail!("--format text and json are for --check; a disk's is fat or iso");
            }
        };
        let (Some(user_data), Some(meta_data), Some(output)) =
            (self.user_data, self.meta_data, self.output)
        else {
            bail!("--user-data, --meta-data and --output belong together");
        };
        let (user_data, meta_data) = (read(&user_data)?, read(&meta_data)?);
        let network_config = self.network_config.as_deref().map(read).transpose()?;
        let vendor_data = self.vendor_data.as_deref().map(read).transpose()?;
        let seed = Seed {
            user_data: &user_data,
            meta_data: &meta_data,
            network_config: network_config.as_deref(),
            vendor_data: vendor_data.as_deref(),
        };
        let disk = seed::write(&seed, format)?;
        output::write_file(&output, &disk)?;
        println!(
            "{}: {} KiB, label {}",
            output.display(),
            disk.len().div_ceil(1024),
            seed::LABEL
        );
        Ok(ExitCode::SUCCESS)
    }
}
