//! Options that several commands have.

use std::path::PathBuf;

use clap::Args;

use crate::workspace::Workspace;

/// The image's description.
#[derive(Clone, Debug, Args)]
pub struct SpecFile {
    /// The image's description [default: the checkout's guest.toml].
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
}

impl SpecFile {
    /// The file that was named, or the checkout's own.
    pub fn path(&self, workspace: &Workspace) -> PathBuf {
        self.spec
            .clone()
            .unwrap_or_else(|| workspace.root().join("guest.toml"))
    }
}
