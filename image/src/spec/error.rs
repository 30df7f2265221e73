//! Why a `guest.toml` is no spec, and where in it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A place in a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// A `guest.toml` that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// The file.
    pub file: PathBuf,
    /// Where in it, if that is one place.
    pub position: Option<Position>,
    /// The key, e.g. `clock.step_us`; empty where the text is no TOML at all.
    pub key: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": `{}`", self.key)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for SpecError {}

/// The text that is being parsed, to turn byte ranges into positions.
pub(super) struct Place<'a> {
    pub text: &'a str,
    pub file: &'a Path,
}

impl Place<'_> {
    /// An error at this byte range of the text.
    pub fn error(
        &self,
        span: Option<Range<usize>>,
        key: impl Into<String>,
        problem: impl Into<String>,
    ) -> SpecError {
        SpecError {
            file: self.file.to_path_buf(),
            position: span.map(|span| position(self.text, span.start)),
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// The position of a byte offset; an offset in the middle of a character counts as its start.
fn position(text: &str, offset: usize) -> Position {
    let before = text
        .char_indices()
        .take_while(|(at, _)| *at < offset)
        .map(|(_, c)| c);
    let (mut line, mut column) = (1, 1);
    for c in before {
        if c == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    Position { line, column }
}
