//! What takes how much space, and whether that is more than the spec allows.

use std::fmt;

use thiserror::Error;

use crate::build::Artifact;
use crate::cpio::{Kind, Tree};

/// Sizes in bytes of artifacts and of what is in them, for people to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SizeTable(pub Vec<(String, u64)>);

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
    /// The sizes.
    pub table: SizeTable,
}

impl SizeTable {
    /// The sizes of artifacts, then of the initrd's files, largest first.
    #[must_use]
    pub fn new(artifacts: &[Artifact], initrd: &Tree) -> Self {
        let mut contents: Vec<_> = initrd
            .iter()
            .filter_map(|(path, entry)| match &entry.kind {
                Kind::File(content) => Some((format!("initrd: /{path}"), content.len() as u64)),
                _ => None,
            })
            .collect();
        contents.sort_by_key(|(_, len)| std::cmp::Reverse(*len));
        let artifacts = artifacts
            .iter()
            .map(|artifact| (artifact.name.to_string(), artifact.bytes.len() as u64));
        Self(artifacts.chain(contents).collect())
    }

    /// Whether `len` bytes are within a limit; none is no limit.
    ///
    /// # Errors
    /// If they are not.
    pub fn check(
        &self,
        what: &'static str,
        len: usize,
        key: &'static str,
        limit_kib: Option<u64>,
    ) -> Result<(), OverBudget> {
        let size_kib = len.div_ceil(1024) as u64;
        match limit_kib {
            Some(limit_kib) if size_kib > limit_kib => Err(OverBudget {
                what,
                key,
                size_kib,
                limit_kib,
                table: self.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// A line each: the size in bytes, right-aligned, then the name.
impl fmt::Display for SizeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(_, size)| size.to_string().len()).max();
        for (index, (name, size)) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(
                f,
                "{newline}{size:>width$}  {name}",
                width = width.unwrap_or(0)
            )?;
        }
        Ok(())
    }
}
