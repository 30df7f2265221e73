//! `seed`: makes a NoCloud volume, by which one instance gets its own name and configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use noonmark_image::output;
use noonmark_image::seed::{self, Seed};

/// A file larger than this is no configuration.
const SIZE_MAX: u64 = 16 << 20;

/// Makes a NoCloud seed disk (label CIDATA), the same bits for the same input.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: cargo xtask seed --user-data user-data --meta-data meta-data \
                        -o seed.img"
)]
pub struct SeedCommand {
    /// The instance's configuration.
    #[arg(long, value_name = "FILE")]
    user_data: PathBuf,
    /// The instance's id and host name, in YAML.
    #[arg(long, value_name = "FILE")]
    meta_data: PathBuf,
    /// The instance's network configuration.
    #[arg(long, value_name = "FILE")]
    network_config: Option<PathBuf>,
    /// The disk image to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl SeedCommand {
    pub fn run(self) -> Result<ExitCode> {
        let user_data = read(&self.user_data)?;
        let meta_data = read(&self.meta_data)?;
        let network_config = self.network_config.as_deref().map(read).transpose()?;
        let disk = seed::write(&Seed {
            user_data: &user_data,
            meta_data: &meta_data,
            network_config: network_config.as_deref(),
        })?;
        output::write_file(&self.output, &disk)?;
        println!(
            "{}: {} KiB, label {}",
            self.output.display(),
            disk.len().div_ceil(1024),
            seed::LABEL
        );
        Ok(ExitCode::SUCCESS)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let size = fs::metadata(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .len();
    if size > SIZE_MAX {
        bail!(
            "{} has {size} bytes; a seed's file has at most {} MiB",
            file.display(),
            SIZE_MAX >> 20
        );
    }
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
