//! What a node of a seed's YAML must be for the key that has it, and what is wrong where it isn't.
//!
//! A key's value that is nothing, as in `key:`, counts as if the key were not there.

use std::fmt::Display;

use noonmark_contract::seed::instance::{Instance, printable};
use thiserror::Error;

use crate::yaml::{self, Node, Place, Value, YamlError};

/// Why a key is ignored for which there is no better reason.
pub const UNKNOWN: &str = "means nothing to this guest";

/// So much of a key is told, as in `write_files[0].path`.
const KEY_MAX: usize = 100;

/// A value, or what is wrong with it.
pub type Checked<T> = Result<T, DocumentError>;

/// A document, or a part of it, that can't be honoured.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// It is no YAML that is taken.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A key's value is wrong.
    #[error("{place}: {key}: {problem}")]
    Value {
        /// Where.
        place: Place,
        /// The key, as in `write_files[0].path`.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// A value, and the keys that lead to it.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    key: String,
    node: &'a Node,
}

/// The tree of a document with keys and values; what it says twice is noted in `instance`.
///
/// # Errors
/// If it is no YAML that is taken, or something else.
pub fn document(name: &str, text: &str, instance: &mut Instance) -> Checked<Node> {
    let mut document = yaml::parse(name, text)?;
    for (place, key) in &document.twice {
        let what = format!("{place}: {}", printable(key, KEY_MAX));
        instance.ignore(what, "is there more than once; the last value counts");
    }
    match document.root.value {
        Value::Map(_) => {}
        Value::Null => document.root.value = Value::Map(Vec::new()),
        _ => return Field::root(&document.root).wrong("expected keys and values"),
    }
    Ok(document.root)
}

impl<'a> Field<'a> {
    /// A whole document.
    #[must_use]
    pub fn root(node: &'a Node) -> Self {
        let key = String::new();
        Self { key, node }
    }

    /// Where it is written.
    #[must_use]
    pub fn place(&self) -> &'a Place {
        &self.node.place
    }

    /// Its key within the value above.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or_default()
    }

    /// The value itself.
    #[must_use]
    pub fn value(&self) -> &'a Value {
        &self.node.value
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    fn below(&self, key: &str, node: &'a Node) -> Self {
        let key = match self.key.as_str() {
            "" => key.to_owned(),
            above => format!("{above}.{key}"),
        };
        Self { key, node }
    }

    /// The values of a mapping that are not nothing, each with its key.
    ///
    /// # Errors
    /// If it is a text or a list.
    pub fn entries(&self) -> Checked<Vec<(&'a str, Self)>> {
        match &self.node.value {
            Value::Null => Ok(Vec::new()),
            Value::Map(entries) => {
                let some = |(key, node): &'a (String, Node)| (key.as_str(), self.below(key, node));
                let entries = entries.iter().map(some);
                Ok(entries.filter(|(_, field)| !field.is_null()).collect())
            }
            _ => self.wrong("expected keys and values"),
        }
    }

    /// A list's items.
    ///
    /// # Errors
    /// If it is a text or a mapping.
    pub fn items(&self) -> Checked<Vec<Self>> {
        match &self.node.value {
            Value::Null => Ok(Vec::new()),
            Value::List(items) => {
                let item = |(index, node): (usize, &'a Node)| Self {
                    key: format!("{}[{index}]", self.key),
                    node,
                };
                Ok(items.iter().enumerate().map(item).collect())
            }
            _ => self.wrong("expected a list"),
        }
    }

    /// The value of this key, if the field is a mapping that has it and it is not nothing.
    #[must_use]
    pub fn get(&self, wanted: &str) -> Option<Self> {
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        let (key, node) = entries.iter().find(|(key, _)| key == wanted)?;
        Some(self.below(key, node)).filter(|field| !field.is_null())
    }

    /// A text; empty where nothing is written.
    ///
    /// # Errors
    /// If it is a list or a mapping.
    pub fn text(&self) -> Checked<&'a str> {
        match &self.node.value {
            Value::Null => Ok(""),
            Value::Plain(text) | Value::Quoted(text) => Ok(text),
            _ => self.wrong("expected a text"),
        }
    }

    /// `!!binary`, or a text's bytes.
    ///
    /// # Errors
    /// If it is neither.
    pub fn bytes(&self) -> Checked<Vec<u8>> {
        match &self.node.value {
            Value::Binary(bytes) => Ok(bytes.clone()),
            _ => Ok(self.text()?.as_bytes().to_vec()),
        }
    }

    /// YAML 1.1's words, quoted or not.
    ///
    /// # Errors
    /// If it is none of them.
    pub fn boolean(&self) -> Checked<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "" | "false" | "no" | "off" | "0" => Ok(false),
            _ => self.wrong("expected true or false"),
        }
    }

    /// The same of a switch: what is none of them counts as false, as with cloud-init, and is told.
    pub fn switch(&self, instance: &mut Instance) -> bool {
        self.boolean().unwrap_or_else(|_| {
            self.ignore(instance, "expected true or false; it counts as false");
            false
        })
    }

    /// A text as what it stands for.
    ///
    /// # Errors
    /// If it doesn't stand for that.
    pub fn parsed<T: std::str::FromStr<Err: Display>>(&self) -> Checked<T> {
        let text = self.text()?.trim();
        text.parse().or_else(|unfit: T::Err| self.wrong(unfit))
    }

    /// Texts, written as a list or as one text with blanks between them.
    ///
    /// # Errors
    /// If it is neither.
    pub fn words(&self) -> Checked<Vec<(&'a str, Self)>> {
        match &self.node.value {
            Value::Plain(text) | Value::Quoted(text) => {
                let words = text.split_whitespace();
                Ok(words.map(|word| (word, self.clone())).collect())
            }
            _ => {
                let items = self.items()?.into_iter();
                items.map(|item| Ok((item.text()?, item))).collect()
            }
        }
    }

    /// The error that this value is wrong.
    ///
    /// # Errors
    /// Always.
    pub fn wrong<T>(&self, problem: impl Display) -> Checked<T> {
        let key = match self.key.as_str() {
            "" => "the document",
            key => key,
        };
        Err(DocumentError::Value {
            place: self.node.place.clone(),
            key: printable(key, KEY_MAX),
            problem: problem.to_string(),
        })
    }

    /// Notes that this value does nothing, and why.
    pub fn ignore(&self, instance: &mut Instance, why: &str) {
        instance.ignore(self, why);
    }

    /// Notes that this value is honoured.
    pub fn take(&self, instance: &mut Instance) {
        instance.take(self);
    }
}

/// As messages name it: place and key.
impl Display for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.node.place, printable(&self.key, KEY_MAX))
    }
}
