//! What a node of the document must be for the key that has it.

use noonmark_contract::seed::instance::printable;
use thiserror::Error;

use crate::yaml::{Node, YamlError};

pub(super) type Read<T> = Result<T, CloudError>;

/// A document that can't be honoured.
#[derive(Debug, Error)]
pub enum CloudError {
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

/// A text; none where nothing is written.
pub fn string(value: &Node, key: &str) -> Read<Option<String>> {
    match value {
        Node::Null => Ok(None),
        Node::Text(text) => Ok(Some(text.clone())),
        _ => wrong(key, "expected a text"),
    }
}

pub fn bytes(value: &Node, key: &str) -> Read<Vec<u8>> {
    match value {
        Node::Binary(bytes) => Ok(bytes.clone()),
        _ => Ok(string(value, key)?.unwrap_or_default().into_bytes()),
    }
}

/// YAML 1.1's words.
pub fn boolean(value: &Node, key: &str) -> Read<bool> {
    let text = string(value, key)?.unwrap_or_default();
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "" | "false" | "no" | "off" | "0" => Ok(false),
        _ => wrong(key, "expected true or false"),
    }
}

pub fn list<'a>(value: &'a Node, key: &str) -> Read<&'a [Node]> {
    match value {
        Node::Null => Ok(&[]),
        Node::List(items) => Ok(items),
        _ => wrong(key, "expected a list"),
    }
}

pub fn wrong<T>(key: &str, problem: impl std::fmt::Display) -> Read<T> {
    Err(CloudError::Value {
        key: printable(key, 100),
        problem: problem.to_string(),
    })
}

/// A mapping's keys and values; none where nothing is written.
pub fn map<'a>(value: &'a Node, key: &str) -> Read<&'a [(String, Node)]> {
    match value {
        Node::Null => Ok(&[]),
        Node::Map(entries) => Ok(entries),
        _ => wrong(key, "expected keys and values"),
    }
}

/// A text that must be there, as what it stands for.
pub fn parsed<T: std::str::FromStr>(value: &Node, key: &str) -> Read<T>
where
    T::Err: std::fmt::Display,
{
    let text = string(value, key)?.unwrap_or_default();
    text.parse().or_else(|unfit: T::Err| wrong(key, unfit))
}

/// Texts, written as a list or as one text with blanks between them.
pub fn words(value: &Node, key: &str) -> Read<Vec<String>> {
    match value {
        Node::Text(text) => Ok(text.split_whitespace().map(Into::into).collect()),
        _ => {
            let words = list(value, key)?.iter().map(|item| string(item, key));
            Ok(words
                .collect::<Read<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        }
    }
}
