//! What a node of a seed's YAML must be for the key that has it, and what is wrong where it isn't.
//!
//! A key's value that is nothing, as in `key:`, counts as an empty text, list or mapping.

use noonmark_contract::seed::instance::printable;
use thiserror::Error;

use crate::yaml::{self, Node, YamlError};

/// Why a key is ignored for which there is no better reason.
pub const UNKNOWN: &str = "means nothing to this guest";

/// A value, or what is wrong with it.
pub type Checked<T> = Result<T, DocumentError>;

/// A document that can't be honoured.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// It is no YAML that is taken.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A key's value is wrong.
    #[error("{key}: {problem}")]
    Value {
        /// The key, as in `write_files[0].path`.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// The keys and values of a whole document.
///
/// # Errors
/// If it is no YAML that is taken, or something else.
pub fn document(text: &str) -> Checked<Vec<(String, Node)>> {
    match yaml::parse(text)? {
        Node::Map(entries) => Ok(entries),
        Node::Null => Ok(Vec::new()),
        _ => wrong("the document", "expected keys and values"),
    }
}

/// This key's value.
#[must_use]
pub fn get<'a>(entries: &'a [(String, Node)], wanted: &str) -> Option<&'a Node> {
    let found = entries.iter().find(|(key, _)| key == wanted);
    found.map(|(_, value)| value)
}

/// A text; none where nothing is written.
///
/// # Errors
/// If it is a list or a mapping.
pub fn string(value: &Node, key: &str) -> Checked<Option<String>> {
    match value {
        Node::Null => Ok(None),
        Node::Text(text) => Ok(Some(text.clone())),
        _ => wrong(key, "expected a text"),
    }
}

/// `!!binary`, or a text's bytes.
///
/// # Errors
/// If it is neither.
pub fn bytes(value: &Node, key: &str) -> Checked<Vec<u8>> {
    match value {
        Node::Binary(bytes) => Ok(bytes.clone()),
        _ => Ok(string(value, key)?.unwrap_or_default().into_bytes()),
    }
}

/// YAML 1.1's words, quoted or not.
///
/// # Errors
/// If it is none of them.
pub fn boolean(value: &Node, key: &str) -> Checked<bool> {
    let text = string(value, key)?.unwrap_or_default();
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "" | "false" | "no" | "off" | "0" => Ok(false),
        _ => wrong(key, "expected true or false"),
    }
}

/// A list's items.
///
/// # Errors
/// If it is a text or a mapping.
pub fn list<'a>(value: &'a Node, key: &str) -> Checked<&'a [Node]> {
    match value {
        Node::Null => Ok(&[]),
        Node::List(items) => Ok(items),
        _ => wrong(key, "expected a list"),
    }
}

/// The error that this key's value is wrong.
///
/// # Errors
/// Always.
pub fn wrong<T>(key: &str, problem: impl std::fmt::Display) -> Checked<T> {
    Err(DocumentError::Value {
        key: printable(key, 100),
        problem: problem.to_string(),
    })
}

/// A mapping's keys and values, in the order in which they are written.
///
/// # Errors
/// If it is a text or a list.
pub fn map<'a>(value: &'a Node, key: &str) -> Checked<&'a [(String, Node)]> {
    match value {
        Node::Null => Ok(&[]),
        Node::Map(entries) => Ok(entries),
        _ => wrong(key, "expected keys and values"),
    }
}

/// A text as what it stands for; none where nothing is written.
///
/// # Errors
/// If it doesn't stand for that.
pub fn optional<T: std::str::FromStr>(value: &Node, key: &str) -> Checked<Option<T>>
where
    T::Err: std::fmt::Display,
{
    let text = string(value, key)?;
    let parsed = text.map(|text| text.parse().or_else(|unfit: T::Err| wrong(key, unfit)));
    parsed.transpose()
}

/// A text that must be there, as what it stands for.
///
/// # Errors
/// If it doesn't stand for that.
pub fn parsed<T: std::str::FromStr>(value: &Node, key: &str) -> Checked<T>
where
    T::Err: std::fmt::Display,
{
    let text = string(value, key)?.unwrap_or_default();
    text.parse().or_else(|unfit: T::Err| wrong(key, unfit))
}

/// Texts, written as a list or as one text with blanks between them.
///
/// # Errors
/// If it is neither.
pub fn words(value: &Node, key: &str) -> Checked<Vec<String>> {
    match value {
        Node::Text(text) => Ok(text.split_whitespace().map(Into::into).collect()),
        _ => {
            let words = list(value, key)?.iter().map(|item| string(item, key));
            Ok(words
                .collect::<Checked<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        }
    }
}
