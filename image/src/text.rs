//! Texts that people write (`guest.toml`, `guest.lock`): parsing them, and saying what is wrong
//! where.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A place in a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// A text that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// The file.
    pub file: PathBuf,
    /// Where in it, if that is one place.
    pub position: Option<Position>,
    /// The key, e.g. `clock.step_us`; empty where the text is no TOML at all.
    pub key: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl fmt::Display for TextError {
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

impl std::error::Error for TextError {}

/// A TOML document that is being read: it parses it, and turns byte ranges into positions.
pub(crate) struct TomlDocument<'a> {
    /// Its files with their texts. Byte ranges count through all of them, with a byte between two.
    pub parts: Vec<(&'a Path, &'a str)>,
}

impl<'a> TomlDocument<'a> {
    /// One of a single file.
    pub fn of(text: &'a str, file: &'a Path) -> Self {
        Self {
            parts: vec![(file, text)],
        }
    }

    /// Parses the last file's TOML; an unknown key is an error that names the nearest one known.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, TextError> {
        let text = self.parts.last().map_or("", |(_, text)| *text);
        self.deserialize(self.checked(toml::Deserializer::parse(text))?)
    }

    /// What TOML's own parser has made of it.
    pub fn checked<T>(&self, parsed: Result<T, toml::de::Error>) -> Result<T, TextError> {
        parsed.map_err(|e| self.error(e.span(), "", one_line(e.message())))
    }

    /// The types that are wanted of what was parsed.
    pub fn deserialize<T: DeserializeOwned>(
        &self,
        deserializer: toml::Deserializer<'_>,
    ) -> Result<T, TextError> {
        serde_path_to_error::deserialize(deserializer).map_err(|e| {
            let path = e.path().to_string();
            // A value with its place (`toml::Spanned`) is to serde a struct with private keys.
            let key = match path.split_once(".$__serde") {
                Some((key, _)) => key,
                None if path == "." => "",
                None => &path,
            }
            .to_string();
            let e = e.into_inner();
            self.error(e.span(), key, with_suggestion(e.message()))
        })
    }

    /// An error at this byte range; without one it is the last file's.
    pub fn error(
        &self,
        span: Option<Range<usize>>,
        key: impl Into<String>,
        problem: impl Into<String>,
    ) -> TextError {
        let last = self.parts.last().map(|(file, _)| *file);
        let mut file = last.unwrap_or(Path::new(""));
        let mut place = None;
        let mut before = 0;
        for (part, text) in &self.parts {
            let offset = span
                .as_ref()
                .and_then(|span| span.start.checked_sub(before));
            if let Some(offset) = offset {
                file = part;
                place = Some(position(text, offset));
            }
            before += text.len() + 1;
        }
        TextError {
            file: file.to_path_buf(),
            position: place,
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

/// A message of serde's or toml's on one line.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Serde names an unknown key and those it knows in backticks, the unknown one first; where one of
/// those known is close to it, the message says so.
fn with_suggestion(message: &str) -> String {
    let mut text = one_line(message);
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let mut names = message.split('`').skip(1).step_by(2);
        if let Some(unknown) = names.next() {
            let nearest = names
                .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
                .min();
            if let Some((distance, known)) = nearest
                && distance <= unknown.len().max(known.len()) / 3 + 1
            {
                text.push_str(&format!("; did you mean `{known}`?"));
            }
        }
    }
    text
}
