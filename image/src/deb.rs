//! Debian packages, read in memory: an `ar` archive of `control.tar.*` and `data.tar.*` (deb(5)).

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::archive::{self, ArchiveError};
use crate::compress;
use crate::cpio::Tree;
use crate::hash::Sha256Hex;

const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER_LEN: usize = 60;
const AR_HEADER_END: &[u8] = b"`\n";

/// Scripts that dpkg runs when it installs a package (deb-preinst(5), deb-postinst(5)).
const INSTALLATION_SCRIPTS: [&str; 2] = ["preinst", "postinst"];

/// A control archive holds a few small texts.
const CONTROL_LIMIT: u64 = 16 << 20;

/// A package that can't be read.
#[derive(Debug, Error)]
pub enum DebError {
    /// It is no `ar` archive, or a broken one.
    #[error("{file}: not a Debian package: {problem}")]
    Archive {
        /// The package's file name.
        file: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A member can't be unpacked.
    #[error("{file}: {member}: {source}; download the package again")]
    Member {
        /// The package's file name.
        file: String,
        /// The member or the file in it.
        member: String,
        /// What the decoder says.
        source: io::Error,
    },
    /// Its files can't be part of an image.
    #[error("{file}: data.tar: {source}")]
    Content {
        /// The package's file name.
        file: String,
        /// What is wrong with them.
        source: ArchiveError,
    },
    /// `control` lacks a field.
    #[error("{file}: its control file has no field `{field}`")]
    Field {
        /// The package's file name.
        file: String,
        /// The field.
        field: &'static str,
    },
}

/// What a package says of itself, and what its file is: an external input, as the lock and the
/// manifest name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageId {
    /// The package's name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its architecture, e.g. `amd64`.
    pub architecture: String,
    /// The package file's SHA-256.
    pub sha256: Sha256Hex,
    /// The package file's size in bytes.
    pub size: u64,
}

/// A package in memory.
#[derive(Debug)]
pub struct Deb<'a> {
    file: String,
    data: &'a [u8],
    /// What it says of itself.
    pub id: PackageId,
    /// Those of its scripts that its installation would run.
    pub scripts: Vec<&'static str>,
}

impl<'a> Deb<'a> {
    /// Opens a package; `file` is its name in messages.
    ///
    /// # Errors
    /// If it is none, or its control file can't be read.
    pub fn open(file: &str, bytes: &'a [u8]) -> Result<Self, DebError> {
        let members = ar_members(bytes).map_err(|problem| DebError::Archive {
            file: file.into(),
            problem,
        })?;
        let find = |prefix: &str, problem| {
            members
                .iter()
                .find(|(name, _)| name.starts_with(prefix))
                .map(|(_, bytes)| *bytes)
                .ok_or(DebError::Archive {
                    file: file.into(),
                    problem,
                })
        };
        let control = find("control.tar", "it has no control.tar")?;
        let (control, scripts) = read_control(control).map_err(|e| DebError::Member {
            file: file.into(),
            member: "control.tar".into(),
            source: e,
        })?;
        let field = |field: &'static str| {
            control_field(&control, field).ok_or(DebError::Field {
                file: file.into(),
                field,
            })
        };
        Ok(Self {
            id: PackageId {
                package: field("Package")?,
                version: field("Version")?,
                architecture: field("Architecture")?,
                sha256: Sha256Hex::of(bytes),
                size: bytes.len() as u64,
            },
            data: find("data.tar", "it has no data.tar")?,
            file: file.into(),
            scripts,
        })
    }

    /// Puts its files, links and folders into the tree, each at the place that `place` gives its path;
    /// none leaves it out.
    ///
    /// # Errors
    /// If the archive is broken, or has what no image can have.
    pub fn unpack(
        &self,
        tree: &mut Tree,
        place: impl Fn(&str) -> Option<String>,
    ) -> Result<(), DebError> {
        let data = compress::reader(self.data).map_err(|source| DebError::Member {
            file: self.file.clone(),
            member: "data.tar".into(),
            source,
        })?;
        archive::unpack(data, tree, place).map_err(|source| DebError::Content {
            file: self.file.clone(),
            source,
        })
    }

    /// Calls `visit` with the path (without leading `./` or `/`) and content of each regular file
    /// whose path `wanted` accepts, in the archive's order.
    ///
    /// # Errors
    /// If the archive is broken.
    pub fn files(
        &self,
        wanted: impl Fn(&str) -> bool,
        mut visit: impl FnMut(&str, Vec<u8>),
    ) -> Result<(), DebError> {
        let mut at = String::from("data.tar");
        let mut walk = || -> io::Result<()> {
            let mut archive = tar::Archive::new(compress::reader(self.data)?);
            for entry in archive.entries()? {
                let mut entry = entry?;
                let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                let path = path.trim_start_matches("./").trim_start_matches('/');
                if entry.header().entry_type() != tar::EntryType::Regular || !wanted(path) {
                    continue;
                }
                at = path.into();
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                visit(path, content);
            }
            Ok(())
        };
        walk().map_err(|source| DebError::Member {
            file: self.file.clone(),
            member: at,
            source,
        })
    }
}

/// The members of an `ar` archive in the common format, by name.
fn ar_members(bytes: &[u8]) -> Result<Vec<(&str, &[u8])>, &'static str> {
    let mut rest = bytes
        .strip_prefix(AR_MAGIC)
        .ok_or("it does not start like an ar archive")?;
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest
            .split_at_checked(AR_HEADER_LEN)
            .ok_or("it ends within a header")?;
        if !header.ends_with(AR_HEADER_END) {
            return Err("a member's header is broken");
        }
        let text = |range| str::from_utf8(&header[range]).map(str::trim_end);
        let name = text(0..16).map_err(|_| "a member's name is no text")?;
        let size: usize = text(48..58)
            .ok()
            .and_then(|size| size.parse().ok())
            .ok_or("a member's size is no number")?;
        let (content, after) = after
            .split_at_checked(size)
            .ok_or("it ends within a member; it was not downloaded whole")?;
        members.push((name.trim_end_matches('/'), content));
        // Members start at even offsets.
        rest = after.get(size % 2..).unwrap_or_default();
    }
    Ok(members)
}

/// The text of the file `control` in `control.tar.*`, and which installation scripts are beside it.
fn read_control(bytes: &[u8]) -> io::Result<(String, Vec<&'static str>)> {
    let mut archive = tar::Archive::new(compress::reader(bytes)?.take(CONTROL_LIMIT));
    let mut control = None;
    let mut scripts = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = path.trim_start_matches("./");
        if name == "control" {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            control = Some(text);
        }
        scripts.extend(INSTALLATION_SCRIPTS.iter().find(|script| **script == name));
    }
    let missing = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "there is no file `control` in it",
        )
    };
    scripts.sort_unstable();
    Ok((control.ok_or_else(missing)?, scripts))
}

/// The value of a one-line field.
fn control_field(control: &str, name: &str) -> Option<String> {
    control
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_string())
}
