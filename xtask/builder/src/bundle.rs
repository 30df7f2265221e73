//! The guest's programs in one piece, for a `noonmark` that has neither checkout nor compiler.
//!
//! A line of JSON says what is in it, with hashes; what follows is the programs one after the other,
//! compressed.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, ensure};
use noonmark_image::compress::{Compression, compress, decompress};
use noonmark_image::hash::Sha256Hex;
use noonmark_image::inputs::Crate;
use serde::{Deserialize, Serialize};

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

/// Makes a bundle of these programs, each with its name.
///
/// # Errors
///
/// What the compressor says; there is none that bytes alone can cause.
pub(crate) fn pack(
    commit: Option<String>,
    rustc: String,
    crates: Vec<Crate>,
    programs: &[(&str, &[u8])],
) -> Result<Vec<u8>> {
    let program = |(name, bytes): &(&str, &[u8])| Program {
        name: (*name).to_owned(),
        size: bytes.len(),
        sha256: Sha256Hex::of(bytes),
    };
    let head = Head {
        commit,
        rustc,
        crates,
        programs: programs.iter().map(program).collect(),
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

impl Bundle {
    /// Reads what [`crate::installable::make`] has made.
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

    /// The guest's programs by their names.
    ///
    /// # Errors
    ///
    /// The bundle is damaged.
    pub(crate) fn unpack(&self) -> Result<BTreeMap<&str, Vec<u8>>> {
        let size: usize = self.head.programs.iter().map(|program| program.size).sum();
        let bytes = decompress(self.compressed, size as u64)
            .context("the guest's programs in this program can't be unpacked")?;
        ensure!(
            bytes.len() == size,
            "the bundle of the guest's programs is cut off"
        );
        let mut rest = bytes.as_slice();
        let mut unpacked = BTreeMap::new();
        for Program { name, size, sha256 } in &self.head.programs {
            let (bytes, after) = rest.split_at(*size);
            ensure!(
                Sha256Hex::of(bytes) == *sha256,
                "{name} in this program is damaged: its hash is not {sha256}; install noonmark anew"
            );
            unpacked.insert(name.as_str(), bytes.to_vec());
            rest = after;
        }
        Ok(unpacked)
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

    const PROGRAMS: [(&str, &[u8]); 3] = [("init", b"PID 1"), ("net", b""), ("seed", b"a reader")];

    fn packed() -> Vec<u8> {
        let commit = Some("c0ffee".to_owned());
        pack(commit, "rustc 1".to_owned(), Vec::new(), &PROGRAMS).unwrap()
    }

    /// What is said of a bundle in whose head `from` was replaced.
    fn told(from: &str, to: &str) -> String {
        let packed = packed();
        let end = packed.iter().position(|byte| *byte == b'\n').unwrap();
        let head = str::from_utf8(&packed[..end]).unwrap();
        assert!(head.contains(from), "{head}");
        let spoiled = [head.replace(from, to).as_bytes(), &packed[end..]].concat();
        let bundle = Bundle::parse(spoiled.leak()).unwrap();
        format!("{:#}", bundle.unpack().unwrap_err())
    }

    #[test]
    fn each_program_comes_out_as_it_went_in_and_is_shown_with_its_hash() {
        let bundle = Bundle::parse(packed().leak()).unwrap();
        let unpacked = bundle.unpack().unwrap();
        assert_eq!(unpacked.len(), PROGRAMS.len());
        for (name, bytes) in PROGRAMS {
            assert_eq!(unpacked[name], bytes);
            let shown = format!("{name:<16} {}", Sha256Hex::of(bytes));
            assert!(bundle.to_string().contains(&shown), "{bundle}");
        }
        assert!(bundle.to_string().contains("c0ffee"), "{bundle}");
    }

    #[test]
    fn a_damaged_bundle_is_refused_and_the_program_named() {
        let hash = Sha256Hex::of(b"a reader").to_string();
        let damaged = told(&hash, &Sha256Hex::of(b"another").to_string());
        assert!(
            damaged.contains("seed in this program is damaged"),
            "{damaged}"
        );
        assert!(told("\"size\":5", "\"size\":6").contains("cut off"));
        assert!(told("\"size\":5", "\"size\":4").contains("can't be unpacked"));
        assert!(Bundle::parse(b"no head").is_err());
    }
}
