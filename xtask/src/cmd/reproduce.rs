//! `reproduce`: shows that the image comes out the same, to the bit, or where it doesn't.

mod checkout;
mod circumstances;
mod compare;
mod date;
mod tools;
mod user;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use noonmark_builder::image::{self, BuildRequest, Image, Variant};
use noonmark_builder::progress;
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::workspace::Workspace;
use noonmark_image::artifact::MANIFEST;
use noonmark_image::manifest::Manifest;

use crate::options::SpecFile;

use self::checkout::Scratch;

/// Builds the image twice from clean copies under different circumstances, and compares the bits.
///
/// The copies differ in path, date, the files' dates, time zone, locale, umask, cargo's settings and
/// variables, and the number of jobs; where root, also in the user and the toolchain's place. What this machine does not let be
/// varied is listed. Exit status 1 if the images differ; the innermost difference is named.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask reproduce --against manifest.json")]
pub struct ReproduceCommand {
    #[command(flatten)]
    spec: SpecFile,
    /// Compare with the manifest of a build made elsewhere instead, and say which input differs.
    #[arg(long, value_name = "MANIFEST")]
    against: Option<PathBuf>,
    /// Take the packages of guest.lock and no others.
    #[arg(long)]
    locked: bool,
    /// Leave both builds where they are, for a look.
    #[arg(long, conflicts_with = "against")]
    keep: bool,
}

impl ReproduceCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let _lock = StateLock::acquire(workspace)?;
        // Downloads everything into the cache; where something is wrong, this fails before two
        // builds do.
        let image = image::build(
            workspace,
            &BuildRequest {
                locked: self.locked,
                ..BuildRequest::new(workspace, &self.spec.path(workspace), Variant::Base)
            },
        )?;
        match &self.against {
            Some(file) => against(&image, file),
            None => self.twice(workspace),
        }
    }

    fn twice(&self, workspace: &Workspace) -> Result<ExitCode> {
        let mut options = self.spec.arguments();
        options.extend(self.locked.then(|| "--locked".to_owned()));
        let scratch = Scratch::new()?;
        let (first, second, same) = circumstances::pair(workspace, scratch.path())?;
        let mut folders = Vec::new();
        for (number, circumstances) in [(1, &first), (2, &second)] {
            let step = progress::step(format!("build {number}: {}", circumstances.describe()));
            folders.push(circumstances.build(workspace, scratch.path(), &options)?);
            step.done(format!("build {number}: {}", circumstances.describe()));
        }
        for reason in same {
            println!("not varied: {reason}");
        }
        let comparison = compare::folders(&folders[0], &folders[1])?;
        for difference in &comparison.differences {
            println!("differs: {difference}");
        }
        println!("identical: {}", comparison.identical.join(", "));
        if self.keep {
            println!("both builds are in {}", scratch.keep().display());
        }
        Ok(if comparison.differences.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Compares the image here with the manifest of another.
fn against(image: &Image, file: &Path) -> Result<ExitCode> {
    let theirs = manifest(file)?;
    let ours = manifest(&image.folder.join(MANIFEST))?;
    let comparison = theirs.compare(&ours);
    for input in &comparison.inputs {
        println!("input differs: {input}");
    }
    for output in &comparison.outputs {
        println!("output differs: {output}");
    }
    if comparison.outputs.is_empty() {
        println!("identical to the build of {}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    if comparison.inputs.is_empty() {
        println!("the same inputs gave other outputs: the build is not reproducible");
    }
    Ok(ExitCode::FAILURE)
}

fn manifest(file: &Path) -> Result<Manifest> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Manifest::parse(&text).with_context(|| file.display().to_string())
}
