//! What a file system's reader has to tell, and how a path is followed through it.

use std::io::{Read, Seek};

use super::error::VolumeError;

/// How many names of a folder are told.
const NAMES_MAX: usize = 8;

/// What is at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
}

/// A name in a folder, and where on the disk that is which it names.
#[derive(Debug)]
pub struct Entry<N> {
    /// The name.
    pub name: String,
    /// What has it.
    pub what: What,
    /// Where that is.
    pub node: N,
}

/// A file system that is read.
pub trait FileSystem {
    /// Where a file or folder is.
    type Node;

    /// The root folder.
    fn root(&self, disk: &mut (impl Read + Seek)) -> Result<Self::Node, VolumeError>;

    /// What is in a folder.
    fn entries(
        &self,
        disk: &mut (impl Read + Seek),
        folder: &Self::Node,
    ) -> Result<Vec<Entry<Self::Node>>, VolumeError>;

    /// Whether who asks for the second name gets what has the first.
    fn is_called(&self, name: &str, wanted: &str) -> bool;

    /// A file's content; `name` is for errors.
    fn content(
        &self,
        disk: &mut (impl Read + Seek),
        file: &Self::Node,
        name: &str,
        max: usize,
    ) -> Result<Vec<u8>, VolumeError>;

    /// The content of the file at this path; none where there is none.
    fn read(
        &self,
        disk: &mut (impl Read + Seek),
        path: &str,
        max: usize,
    ) -> Result<Option<Vec<u8>>, VolumeError> {
        let mut folder = self.root(disk)?;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let mut entries = self.entries(disk, &folder)?.into_iter();
            let Some(entry) = entries.find(|entry| self.is_called(&entry.name, part)) else {
                break;
            };
            match (entry.what, parts.peek()) {
                (What::Folder, Some(_)) => folder = entry.node,
                (What::File, None) => {
                    return self.content(disk, &entry.node, path, max).map(Some);
                }
                (What::Link, _) => return Err(VolumeError::Link(path.into())),
                (What::File, Some(_)) | (What::Folder, None) => break,
            }
        }
        Ok(None)
    }

    /// The first few names in the root folder.
    fn names(&self, disk: &mut (impl Read + Seek)) -> Result<Vec<String>, VolumeError> {
        let root = self.root(disk)?;
        let entries = self.entries(disk, &root)?;
        let names = entries.into_iter().take(NAMES_MAX).map(|entry| entry.name);
        Ok(names.collect())
    }
}
