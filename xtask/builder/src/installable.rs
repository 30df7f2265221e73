//! Makes the bundle that becomes part of an installed `noonmark`.

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::workspace::Workspace;
use crate::{bundle, exec, programs, provenance};

/// Compiles the guest's programs of a checkout and makes a bundle of them.
///
/// # Errors
///
/// They don't compile, or cargo can't be asked.
pub fn make(workspace: &Workspace) -> Result<Vec<u8>> {
    bundle::pack(
        commit(workspace),
        provenance::rustc(workspace)?,
        provenance::crates(workspace)?,
        &programs::build(workspace)?.named(),
    )
}

/// The checkout's commit, with `-dirty` where files differ from it; none where git is missing or this
/// is no clone.
fn commit(workspace: &Workspace) -> Option<String> {
    let shell = Shell::new().ok()?;
    shell.change_dir(workspace.root());
    let git = cmd!(
        shell,
        "git describe --always --abbrev=40 --dirty --exclude=*"
    );
    Some(exec::read(git).ok()?.trim().to_owned())
}
