//! The guest's programs in one piece, for a `noonmark` that has neither checkout nor compiler.
//!
//! A line of JSON says what is in it, with hashes; what follows is the programs one after the other,
//! compressed.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use noonmark_image::compress::{Compression, compress, decompress};
use noonmark_image::hash::Sha256Hex;
use noonmark_image::inputs::Crate;
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

use crate::exec;
use crate::programs::{self, Programs};
use crate::provenance;
use crate::workspace::Workspace;

/// What a bundle says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The commit of the checkout, with `-dirty` where files differ from it; none where nobody knows.
    commit: Option<String>,
    rustc: String,
    crates: Vec<Crate>,
    programs: Vec<Program>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Program {
    name: String,
    /// Bytes.
    size: usize,
    sha256: Sha256Hex,
}

/// A bundle that is part of this program.
#[derive(Debug)]
pub struct Bundle {
    head: Head,
    line: &'static [u8],
    compressed: &'static [u8],
}

/// Compiles the guest's programs of a checkout and makes a bundle of them.
///
/// # Errors
///
/// They don't compile, or cargo can't be asked.
pub fn make(workspace: &Workspace) -> Result<Vec<u8>> {
    let programs = programs::build(workspace)?;
    let programs = programs.named();
    let head = Head {
        commit: commit(workspace),
        rustc: provenance::rustc(workspace)?,
        crates: provenance::crates(workspace)?,
        programs: programs
            .iter()
            .map(|(name, bytes)| Program {
                name: (*name).to_owned(),
                size: bytes.len(),
                sha256: Sha256Hex::of(bytes),
            })
            .collect(),
    };
    let mut bundle = serde_json::to_vec(&head).context("a bundle's head has no JSON form")?;
    bundle.push(b'\n');
    let bytes: Vec<u8> = programs
        .iter()
        .flat_map(|(_, bytes)| *bytes)
        .copied()
        .collect();
    bundle.extend(compress(&bytes, Compression::Zstd).context("cannot compress")?);
    Ok(bundle)
}

/// The checkout's commit, where git is there and it is a clone.
fn commit(workspace: &Workspace) -> Option<String> {
    let shell = Shell::new().ok()?;
    shell.change_dir(workspace.root());
    let told = exec::read(cmd!(
        shell,
        "git describe --always --abbrev=40 --dirty --exclude=*"
    ));
    Some(told.ok()?.trim().to_owned())
}

impl Bundle {
    /// Reads what [`make`] has made.
    ///
    /// # Errors
    ///
    /// It is no bundle.
    pub fn parse(bytes: &'static [u8]) -> Result<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = bytes.split_at(end.context("a bundle without a head")?);
        Ok(Self {
            head: serde_json::from_slice(line).context("the bundle's head is broken")?,
            line,
            compressed: &rest[1..],
        })
    }

    /// The guest's programs.
    ///
    /// # Errors
    ///
    /// The bundle is damaged.
    pub(crate) fn programs(&self) -> Result<Programs> {
        let size: usize = self.head.programs.iter().map(|program| program.size).sum();
        let bytes = decompress(self.compressed, size as u64)
            .context("the guest's programs in this program can't be unpacked")?;
        ensure!(
            bytes.len() == size,
            "the bundle of the guest's programs is cut off"
        );
        let mut rest = bytes.as_slice();
        let mut unpacked = Vec::new();
        for Program { name, size, sha256 } in &self.head.programs {
            let (bytes, after) = rest.split_at(*size);
            ensure!(
                Sha256Hex::of(bytes) == *sha256,
                "{name} in this program is damaged: its hash is not {sha256}; install noonmark anew"
            );
            unpacked.push((name.as_str(), bytes));
            rest = after;
        }
        Programs::of(|wanted| {
            unpacked
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, bytes)| bytes.to_vec())
                .with_context(|| format!("{wanted} is not in this program"))
        })
    }

    pub(crate) fn rustc(&self) -> &str {
        &self.head.rustc
    }

    pub(crate) fn crates(&self) -> &[Crate] {
        &self.head.crates
    }

    /// What tells it from any other.
    pub(crate) fn identity(&self) -> &'static [u8] {
        self.line
    }
}

/// The commit, and each program with its hash, as `--version` shows them.
impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = self.head.commit.as_deref().unwrap_or("unknown");
        write!(f, "commit {commit}, {}", self.head.rustc)?;
        for Program { name, sha256, .. } in &self.head.programs {
            write!(f, "\n{name:<16} {sha256}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(spoil: impl FnOnce(&mut Head)) -> Bundle {
        let names = programs::NAMES;
        let bytes: Vec<u8> = names.iter().flat_map(|name| name.bytes()).collect();
        let program = |name: &&str| Program {
            name: (*name).to_owned(),
            size: name.len(),
            sha256: Sha256Hex::of(name.as_bytes()),
        };
        let mut head = Head {
            commit: Some("c0ffee".to_owned()),
            rustc: "rustc 1".to_owned(),
            crates: Vec::new(),
            programs: names.iter().map(program).collect(),
        };
        spoil(&mut head);
        let mut whole = serde_json::to_vec(&head).unwrap();
        whole.push(b'\n');
        whole.extend(compress(&bytes, Compression::Zstd).unwrap());
        Bundle::parse(whole.leak()).unwrap()
    }

    #[test]
    fn each_program_comes_out_as_it_went_in_and_is_shown_with_its_hash() {
        let bundle = bundle(|_| {});
        for (name, bytes) in bundle.programs().unwrap().named() {
            assert_eq!(bytes, name.as_bytes());
            let shown = format!("{name:<16} {}", Sha256Hex::of(bytes));
            assert!(bundle.to_string().contains(&shown), "{bundle}");
        }
        assert!(bundle.to_string().contains("c0ffee"), "{bundle}");
    }

    #[test]
    fn a_damaged_bundle_is_refused_by_the_name_of_what_is_wrong() {
        let told = |bundle: Bundle| format!("{:#}", bundle.programs().unwrap_err());
        let other = bundle(|head| head.programs[1].sha256 = Sha256Hex::of(b"other"));
        assert!(told(other).contains(programs::NAMES[1]));
        let longer = bundle(|head| head.programs[0].size += 1);
        assert!(told(longer).contains("cut off"));
        let unnamed = bundle(|head| head.programs[2].name.clear());
        assert!(told(unnamed).contains(programs::NAMES[2]));
        assert!(Bundle::parse(b"no head").is_err());
    }
}
