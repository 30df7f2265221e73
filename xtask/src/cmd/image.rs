//! `image`: builds an image and says what it is made of.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::build::image::{self, Kind};
use crate::cmd::options::SpecFile;
use crate::host::lock;
use crate::workspace::Workspace;

/// Builds the guest image that guest.toml describes.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask image --out /tmp/image")]
pub struct ImageCommand {
    #[command(flatten)]
    spec: SpecFile,
    /// Where the image goes [default: target/noonmark/image/base, or .../test].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Build the image for experiments, which has the program that disturbs the clock.
    #[arg(long)]
    test: bool,
}

impl ImageCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let _lock = lock::acquire(workspace)?;
        let kind = if self.test { Kind::Test } else { Kind::Base };
        let folder = self
            .out
            .unwrap_or_else(|| image::default_folder(workspace, kind));
        let image = image::build(workspace, &self.spec.path(workspace), kind, &folder)?;
        let state = if image.rebuilt { "built" } else { "up to date" };
        println!("{} ({state})", Workspace::short(&image.folder).display());
        for (name, size) in &image.artifacts {
            println!("{:>8} KiB  {name}", size.div_ceil(1024));
        }
        Ok(ExitCode::SUCCESS)
    }
}
