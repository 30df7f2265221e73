//! Whether an image is within its spec's budget, and if not, what takes how much space.

use std::cmp::Reverse;

use thiserror::Error;

use crate::artifact::{Artifact, DISK, INITRD};
use crate::cpio::{Kind, Tree};
use crate::layout::INIT_PROGRAM;
use crate::spec::Budget;

/// Something is larger than it may be.
#[derive(Debug, Error)]
#[error(
    "{what} has {size_kib} KiB, over the {limit_kib} KiB of `{key}`; make it smaller or raise the \
     budget. What takes the space, in bytes:\n{table}"
)]
pub struct OverBudget {
    /// What is too large.
    pub what: &'static str,
    /// The key that limits it.
    pub key: &'static str,
    /// Its size, rounded up.
    pub size_kib: u64,
    /// The limit.
    pub limit_kib: u64,
    /// The sizes of the artifacts and of the initrd's files, a line each.
    pub table: String,
}

/// Whether PID 1's program, the initrd and the disk are within the budget. An artifact that is not
/// there has no size.
///
/// # Errors
/// The first that is not.
pub fn check(
    budget: &Budget,
    init: &[u8],
    artifacts: &[Artifact],
    initrd: &Tree,
) -> Result<(), OverBudget> {
    let len = |name| {
        let artifact = artifacts.iter().find(|artifact| artifact.name == name);
        artifact.map_or(0, |artifact| artifact.bytes.len())
    };
    let kib = |limit: Option<u32>| limit.map(u64::from);
    let disk_kib = kib(budget.disk_mib).map(|mib| mib << 10);
    for (what, len, key, limit_kib) in [
        (
            INIT_PROGRAM,
            init.len(),
            "budget.init_kib",
            kib(budget.init_kib),
        ),
        (
            INITRD,
            len(INITRD),
            "budget.initrd_kib",
            kib(budget.initrd_kib),
        ),
        (DISK, len(DISK), "budget.disk_mib", disk_kib),
    ] {
        let size_kib = len.div_ceil(1024) as u64;
        if let Some(limit_kib) = limit_kib
            && size_kib > limit_kib
        {
            return Err(OverBudget {
                what,
                key,
                size_kib,
                limit_kib,
                table: table(artifacts, initrd),
            });
        }
    }
    Ok(())
}

/// The sizes of the artifacts, then of the initrd's files, largest first: right-aligned, then the
/// name.
fn table(artifacts: &[Artifact], initrd: &Tree) -> String {
    let files = initrd.iter().filter_map(|(path, entry)| match &entry.kind {
        Kind::File(content) => Some((content.len(), format!("initrd: /{path}"))),
        _ => None,
    });
    let mut files: Vec<_> = files.collect();
    files.sort_by_key(|(len, _)| Reverse(*len));
    let artifacts = artifacts
        .iter()
        .map(|artifact| (artifact.bytes.len(), artifact.name.to_owned()));
    let rows: Vec<_> = artifacts.chain(files).collect();
    let longest = rows.iter().map(|(len, _)| *len).max().unwrap_or_default();
    let width = longest.to_string().len();
    let lines = rows
        .iter()
        .map(|(len, name)| format!("{len:>width$}  {name}"));
    lines.collect::<Vec<_>>().join("\n")
}
