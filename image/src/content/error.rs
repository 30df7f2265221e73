//! What is said of content that can't be part of an image.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::package::PackageError;

/// Content that can't be part of an image.
#[derive(Debug, Error)]
pub enum ContentError {
    /// A source can't be read.
    #[error("[[tree]] `{tree}` of the image: can't read {}: {source}", .file.display())]
    Read {
        /// The tree's path in the guest.
        tree: String,
        /// The file on this machine.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A source is nothing that an image can have.
    #[error(
        "[[tree]] `{tree}` of the image: {} {problem}; leave it out with `exclude`", .file.display()
    )]
    Unfit {
        /// The tree's path in the guest.
        tree: String,
        /// The file on this machine.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// A pattern of `include` that takes nothing.
    #[error(
        "[[tree]] `{tree}` of the image: nothing below {} is like `{pattern}` of `include`",
        .folder.display()
    )]
    Nothing {
        /// The tree's path in the guest.
        tree: String,
        /// The folder on this machine.
        folder: PathBuf,
        /// The pattern.
        pattern: String,
    },
    /// Two of them want the same place.
    #[error("`/{path}` of the image comes from {first} and from {second}; leave it out of one")]
    Twice {
        /// Its path in the guest, without the leading `/`.
        path: String,
        /// What had it first.
        first: String,
        /// What has it too.
        second: String,
    },
    /// Something lies below what is no folder.
    #[error(
        "`/{path}` of the image ({origin}) lies below `/{parent}`, which is no folder ({other})"
    )]
    Below {
        /// Its path in the guest, without the leading `/`.
        path: String,
        /// What it comes from.
        origin: String,
        /// The one above it.
        parent: String,
        /// What that comes from.
        other: String,
    },
    /// Something that is mounted would hide it.
    #[error("`/{path}` of the image ({origin}) would be hidden by {mount}")]
    Hidden {
        /// Its path in the guest, without the leading `/`.
        path: String,
        /// What it comes from.
        origin: String,
        /// What is mounted, and where.
        mount: String,
    },
    /// The packages that are named make no root.
    #[error("[[{table}]] of the image: {source}")]
    Package {
        /// `package` or `program`.
        table: &'static str,
        /// What is wrong with them.
        source: PackageError,
    },
    /// A pattern of `include` that takes nothing of a package.
    #[error(
        "[[package]] `{package}` of the image: neither it nor what it depends on has anything like \
         `{pattern}` of `include`"
    )]
    NothingOfPackage {
        /// The package's name.
        package: String,
        /// The pattern.
        pattern: String,
    },
    /// A file of a package that no image can have there.
    #[error(
        "[[package]] `{package}` of the image: its /{path} can't be there: {problem}; leave it out \
         with `exclude`"
    )]
    UnfitInPackage {
        /// The package's name.
        package: String,
        /// The file, without the leading `/`.
        path: String,
        /// Why.
        problem: &'static str,
    },
    /// A program that can't be taken.
    #[error("[[program]] `{path}` of the image: {problem}")]
    Program {
        /// Its path in the guest.
        path: String,
        /// Why, and what can be done.
        problem: String,
    },
}
