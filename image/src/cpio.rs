//! The `newc` cpio archive that Linux takes as an initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! [`write`] is a pure function of its entries and one date: sorted by path, inodes numbered in that
//! order, device numbers 0, link counts as a file system would have them.

use std::collections::BTreeMap;

use thiserror::Error;

const MAGIC: &str = "070701";
const HEADER_LEN: usize = 110;
const TRAILER: &str = "TRAILER!!!";

/// The archive's length is rounded up to this, as cpio does.
const BLOCK_LEN: usize = 512;

const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_CHARACTER_DEVICE: u32 = 0o020_000;
const TYPE_REGULAR: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;

/// One file of an archive. Its path is the key it is kept under: without a leading `/`, without
/// `.`, `..` or empty parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 0 to 0o7777.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file and its content.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(String),
    /// A character device.
    CharacterDevice {
        /// Its driver.
        major: u32,
        /// Its number with that driver.
        minor: u32,
    },
}

/// Entries by path.
pub type Tree = BTreeMap<String, Entry>;

/// An archive that can't be written or read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CpioError {
    /// A path that the format or this writer can't hold.
    #[error("`{0}` can't be a path in an initrd: expected a relative path without `.` and `..`")]
    Path(String),
    /// Something is both a directory and not.
    #[error("`{0}` is a directory for other entries, but is not one itself")]
    NoDirectory(String),
    /// A content over 4 GiB.
    #[error("`{0}` is larger than 4 GiB, which the newc format can't hold")]
    TooLarge(String),
    /// A broken archive.
    #[error("broken cpio archive at byte {at}: {problem}")]
    Broken {
        /// Where the entry starts.
        at: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Entry {
    /// A file of root's.
    #[must_use]
    pub fn file(content: Vec<u8>, permissions: u32) -> Self {
        Self::of_root(Kind::File(content), permissions)
    }

    /// A directory of root's.
    #[must_use]
    pub fn directory(permissions: u32) -> Self {
        Self::of_root(Kind::Directory, permissions)
    }

    /// A character device of root's.
    #[must_use]
    pub fn character_device(major: u32, minor: u32, permissions: u32) -> Self {
        Self::of_root(Kind::CharacterDevice { major, minor }, permissions)
    }

    /// A symbolic link to `target`; its permissions mean nothing to the kernel.
    #[must_use]
    pub fn symlink(target: &str) -> Self {
        Self::of_root(Kind::Symlink(target.into()), 0o777)
    }

    fn of_root(kind: Kind, permissions: u32) -> Self {
        Self {
            kind,
            permissions,
            uid: 0,
            gid: 0,
        }
    }
}

/// Writes an archive; every date in it is `mtime_s`, seconds since 1970. Directories that entries
/// need and the tree lacks are added, 0o755 and root's.
///
/// # Errors
/// If an entry doesn't fit the format.
pub fn write(tree: &Tree, mtime_s: u32) -> Result<Vec<u8>, CpioError> {
    let tree = with_parents(tree)?;
    let mut archive = Vec::new();
    for (inode, (path, entry)) in (1_u32..).zip(&tree) {
        let (file_type, content, device) = match &entry.kind {
            Kind::File(content) => (TYPE_REGULAR, content.as_slice(), (0, 0)),
            Kind::Directory => (TYPE_DIRECTORY, [].as_slice(), (0, 0)),
            Kind::Symlink(target) => (TYPE_SYMLINK, target.as_bytes(), (0, 0)),
            Kind::CharacterDevice { major, minor } => {
                (TYPE_CHARACTER_DEVICE, [].as_slice(), (*major, *minor))
            }
        };
        let header = Header {
            inode,
            mode: file_type | entry.permissions,
            uid: entry.uid,
            gid: entry.gid,
            links: links(&tree, path, entry),
            mtime_s,
            device,
        };
        header.append(&mut archive, path, content)?;
    }
    Header::default().append(&mut archive, TRAILER, &[])?;
    archive.resize(archive.len().next_multiple_of(BLOCK_LEN), 0);
    Ok(archive)
}

/// Reads an archive that [`write`] or another program has made. Of several archives one after the
/// other only the first is read.
///
/// # Errors
/// If it is broken, or holds what [`Kind`] doesn't know.
pub fn read(archive: &[u8]) -> Result<Tree, CpioError> {
    let mut tree = Tree::new();
    let mut at = 0;
    loop {
        let broken = |problem| CpioError::Broken { at, problem };
        let header = archive
            .get(at..at + HEADER_LEN)
            .ok_or_else(|| broken("it ends within a header"))?;
        if !header.starts_with(MAGIC.as_bytes()) {
            return Err(broken("an entry does not start with 070701"));
        }
        let field = |index: usize| {
            let digits = str::from_utf8(&header[6 + index * 8..][..8]).ok();
            digits
                .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|text| u32::from_str_radix(text, 16).ok())
                .ok_or_else(|| broken("a header field is no hexadecimal number"))
        };
        let (mode, content_len, name_len) = (field(1)?, field(6)? as usize, field(11)? as usize);
        let name_start = at + HEADER_LEN;
        let content_start = (name_start + name_len).next_multiple_of(4);
        let path = archive
            .get(name_start..name_start + name_len)
            .and_then(|name| name.strip_suffix(&[0]))
            .and_then(|name| str::from_utf8(name).ok())
            .ok_or_else(|| broken("a name is cut off or no text"))?;
        if path == TRAILER {
            return Ok(tree);
        }
        let content = archive
            .get(content_start..content_start + content_len)
            .ok_or_else(|| broken("a content is cut off"))?;
        let kind = match mode & TYPE_MASK {
            TYPE_REGULAR => Kind::File(content.to_vec()),
            TYPE_DIRECTORY => Kind::Directory,
            TYPE_SYMLINK => Kind::Symlink(
                String::from_utf8(content.to_vec())
                    .map_err(|_| broken("a symbolic link's target is no text"))?,
            ),
            TYPE_CHARACTER_DEVICE => Kind::CharacterDevice {
                major: field(9)?,
                minor: field(10)?,
            },
            _ => return Err(broken("an entry of a kind that no initrd of ours has")),
        };
        let entry = Entry {
            kind,
            permissions: mode & !TYPE_MASK,
            uid: field(2)?,
            gid: field(3)?,
        };
        if !is_clean(path) || tree.insert(path.to_string(), entry).is_some() {
            return Err(broken("a path is not clean, or there twice"));
        }
        at = (content_start + content_len).next_multiple_of(4);
    }
}

/// What a header says beside the lengths.
#[derive(Default)]
struct Header {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    mtime_s: u32,
    device: (u32, u32),
}

impl Header {
    fn append(&self, archive: &mut Vec<u8>, path: &str, content: &[u8]) -> Result<(), CpioError> {
        let too_large = || CpioError::TooLarge(path.into());
        let content_len = u32::try_from(content.len()).map_err(|_| too_large())?;
        let name_len = u32::try_from(path.len() + 1).map_err(|_| too_large())?;
        // The trailer has one link too, as cpio writes it.
        let fields = [
            self.inode,
            self.mode,
            self.uid,
            self.gid,
            self.links.max(1),
            self.mtime_s,
            content_len,
            0,
            0,
            self.device.0,
            self.device.1,
            name_len,
            0,
        ];
        archive.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(path.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
        Ok(())
    }
}

/// The tree with every directory that its paths go through.
fn with_parents(tree: &Tree) -> Result<Tree, CpioError> {
    let mut all = tree.clone();
    for path in tree.keys() {
        if !is_clean(path) {
            return Err(CpioError::Path(path.clone()));
        }
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            match all.get(parent) {
                Some(entry) if entry.kind == Kind::Directory => {}
                Some(_) => return Err(CpioError::NoDirectory(parent.into())),
                None => {
                    all.insert(parent.into(), Entry::directory(0o755));
                }
            }
        }
    }
    Ok(all)
}

/// How many links an entry has: a directory one for itself, one for its `.`, and one for each
/// subdirectory's `..`.
fn links(tree: &Tree, path: &str, entry: &Entry) -> u32 {
    if entry.kind != Kind::Directory {
        return 1;
    }
    let prefix = format!("{path}/");
    let subdirectories = tree
        .range(prefix.clone()..)
        .take_while(|(other, _)| other.starts_with(&prefix))
        .filter(|(other, entry)| {
            entry.kind == Kind::Directory && !other[prefix.len()..].contains('/')
        })
        .count();
    2 + u32::try_from(subdirectories).unwrap_or(u32::MAX - 2)
}

fn is_clean(path: &str) -> bool {
    path != TRAILER
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
