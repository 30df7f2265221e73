//! The files that a run of measurements is written to, and the file of limits that it is held to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use noonmark_image::output;
use noonmark_lab::report::Report;
use noonmark_lab::report::document::Document;
use noonmark_lab::report::limits::Limits;
use noonmark_lab::{junit, page};

/// Where the measurements go beside the table on standard output.
#[derive(Clone, Debug, Args)]
pub struct Outputs {
    /// Write every raw sample, with versions and hashes of all that took part, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub rendered: Rendered,
}

/// What can be made again from the JSON.
#[derive(Clone, Debug, Args)]
pub struct Rendered {
    /// Write the report as a page with plots, in one file that needs no network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write which fault passed as JUnit XML, for CI systems.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Outputs {
    /// All files that were asked for.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let Rendered { html, junit } = &self.rendered;
        [&self.json, html, junit].into_iter().flatten()
    }

    /// Fails now rather than after the experiment, when a file can't be put where it is wanted.
    ///
    /// # Errors
    ///
    /// The option and its folder.
    pub fn check(&self) -> Result<()> {
        if let Some(file) = &self.json {
            check_folder("--json", file)?;
        }
        self.rendered.check()
    }

    /// Writes all files that were asked for.
    ///
    /// # Errors
    ///
    /// The first file that can't be written.
    pub fn write(&self, document: &Document) -> Result<()> {
        if let Some(file) = &self.json {
            let mut text = match document {
                Document::Report(report) => serde_json::to_vec_pretty(report),
                Document::Bench(bench) => serde_json::to_vec_pretty(bench),
            }
            .context("the report has no JSON form")?;
            text.push(b'\n');
            output::write_file(file, &text)?;
        }
        self.rendered.write(document)
    }
}

impl Rendered {
    /// As [`Outputs::check`].
    ///
    /// # Errors
    ///
    /// The option and its folder.
    pub fn check(&self) -> Result<()> {
        let files = [("--html", &self.html), ("--junit", &self.junit)];
        for (option, file) in files {
            if let Some(file) = file {
                check_folder(option, file)?;
            }
        }
        Ok(())
    }

    /// As [`Outputs::write`].
    ///
    /// # Errors
    ///
    /// The first file that can't be written.
    pub fn write(&self, document: &Document) -> Result<()> {
        if let Some(file) = &self.html {
            output::write_file(file, page::render(document)?.as_bytes())?;
        }
        if let Some(file) = &self.junit {
            // Of a bench, only our own run is under test.
            let (_, ours) = *document.runs().first().context("no run is in it")?;
            output::write_file(file, junit::render(ours)?.as_bytes())?;
        }
        Ok(())
    }

    /// Whether any file is wanted.
    pub fn any(&self) -> bool {
        self.html.is_some() || self.junit.is_some()
    }
}

/// Reads a file of limits.
///
/// # Errors
///
/// It can't be read, or names what does not exist.
pub fn limits(file: &Path) -> Result<Limits> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("--limits: cannot read {}", file.display()))?;
    Limits::parse(&text).with_context(|| format!("--limits {}", file.display()))
}

/// Reads a report or a bench.
///
/// # Errors
///
/// It can't be read, or is none.
pub fn document(file: &Path) -> Result<Document> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Document::parse(&text).with_context(|| format!("{}", file.display()))
}

/// The run of a document that limits are for: the only one, or our own of several.
///
/// # Errors
///
/// There is none.
pub fn ours(document: &mut Document) -> Result<&mut Report> {
    match document {
        Document::Report(report) => Ok(report),
        Document::Bench(bench) => {
            let first = bench.runs.first_mut().context("no run is in it")?;
            Ok(&mut first.report)
        }
    }
}

fn check_folder(option: &str, file: &Path) -> Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if file.is_dir() {
        bail!("{option} {}: this is a folder; name a file", file.display());
    }
    if !folder.is_dir() {
        bail!(
            "{option} {}: there is no folder {}",
            file.display(),
            folder.display()
        );
    }
    // The folder may be on a read-only file system or belong to another user; trying tells.
    tempfile::tempfile_in(folder).with_context(|| {
        format!(
            "{option} {}: cannot write in the folder {}",
            file.display(),
            folder.display()
        )
    })?;
    Ok(())
}
