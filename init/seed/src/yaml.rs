//! YAML as a tree of bounded size.
//!
//! A seed is not trusted: depth, nodes and text are counted, with what aliases stand for as if it
//! were written out, so that no document takes more memory than it may. Scalars stay as they are
//! written: what `0644`, `1.10` and `yes` mean is up to the key that has them. A deserializer for
//! serde makes numbers and booleans of them before the key's reader sees them.
//!
//! What YAML leaves open is as PyYAML has it, which cloud-init reads with: of a key that is there
//! twice the last value counts, and `<<` takes the keys of other mappings in (YAML 1.1's merge keys).

mod node;

use std::collections::BTreeMap;
use std::rc::Rc;

use node::size;
pub use node::{Node, Place, Value};
use noonmark_contract::seed::instance::printable;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use thiserror::Error;

use crate::content;

/// How many nodes a document may have, aliases written out.
pub const NODES_MAX: usize = 20_000;

/// How deep they may be nested.
const DEPTH_MAX: usize = 32;

/// How many bytes of text they may have, aliases written out.
const TEXT_MAX: usize = 8 << 20;

/// The key that takes other mappings' keys in.
const MERGE: &str = "<<";

/// A document that is not taken.
#[derive(Debug, Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("{document}: {error}")]
    Syntax {
        /// Which.
        document: Rc<str>,
        /// What is wrong, with its line.
        error: ScanError,
    },
    /// It is too large or too deep, or YAML that no configuration needs.
    #[error("{place}: {what}")]
    Shape {
        /// Where.
        place: Place,
        /// What is wrong.
        what: String,
    },
}

/// A document's tree, and what the reader had to choose.
#[derive(Debug)]
pub struct Document {
    /// The tree.
    pub root: Node,
    /// Keys that are there twice, with the place of the value that counts.
    pub twice: Vec<(Place, String)>,
}

/// Reads the one document of a text; `document` is its name in messages.
///
/// # Errors
/// [`YamlError`].
pub fn parse(document: &str, text: &str) -> Result<Document, YamlError> {
    let document: Rc<str> = document.into();
    let mut builder = Builder::new(&document);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| YamlError::Syntax {
            document: document.clone(),
            error,
        })?;
        builder.place.line = span.start.line();
        builder.take(event)?;
    }
    let place = Place { document, line: 1 };
    let nothing = Node {
        place,
        value: Value::Null,
    };
    Ok(Document {
        root: builder.root.unwrap_or(nothing),
        twice: builder.twice,
    })
}

/// A collection that is not complete yet.
struct Open {
    place: Place,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map {
        entries: Vec<(String, Node)>,
        key: Option<String>,
        /// What `<<` names, whose keys count where the mapping has none of its own.
        merged: Vec<Node>,
    },
}

/// Makes the tree out of the parser's events.
struct Builder {
    place: Place,
    root: Option<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    text: usize,
    twice: Vec<(Place, String)>,
}

impl Builder {
    fn new(document: &Rc<str>) -> Self {
        Self {
            place: Place {
                document: document.clone(),
                line: 1,
            },
            root: None,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            nodes: 0,
            text: 0,
            twice: Vec::new(),
        }
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = Node {
                    place: self.place.clone(),
                    value: self.scalar(&text, style, tag.as_deref())?,
                };
                self.add(node, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(Kind::List(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.begin(
                Kind::Map {
                    entries: Vec::new(),
                    key: None,
                    merged: Vec::new(),
                },
                anchor,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.add_copy(anchor),
            Event::DocumentStart(_) if self.root.is_some() => {
                self.wrong("a second document; one is expected")
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
    ) -> Result<Value, YamlError> {
        let tag = tag.map(|tag| tag.suffix.as_str());
        if tag == Some("binary") {
            return content::base64(text.as_bytes())
                .map(Value::Binary)
                .or_else(|error| self.wrong(&format!("!!binary: {error}")));
        }
        let nothing = matches!(text, "" | "~" | "null" | "Null" | "NULL");
        Ok(if style != ScalarStyle::Plain || tag == Some("str") {
            Value::Quoted(text.into())
        } else if nothing {
            Value::Null
        } else {
            Value::Plain(text.into())
        })
    }

    fn begin(&mut self, kind: Kind, anchor: usize) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return self.wrong("nested more than 32 deep");
        }
        let place = self.place.clone();
        self.open.push(Open {
            place,
            anchor,
            kind,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(open) = self.open.pop() else {
            return self.wrong("an end without a beginning");
        };
        let value = match open.kind {
            Kind::List(items) => Value::List(items),
            Kind::Map {
                entries, merged, ..
            } => Value::Map(self.merge(entries, merged)?),
        };
        let node = Node {
            place: open.place,
            value,
        };
        self.add(node, open.anchor)
    }

    /// A mapping's keys with those that `<<` takes in; of several mappings the first one that has a key
    /// counts.
    fn merge(
        &self,
        mut entries: Vec<(String, Node)>,
        merged: Vec<Node>,
    ) -> Result<Vec<(String, Node)>, YamlError> {
        let mut sources = Vec::new();
        for node in merged {
            match node.value {
                Value::List(items) => sources.extend(items),
                _ => sources.push(node),
            }
        }
        for source in sources {
            let Value::Map(others) = source.value else {
                return self.wrong("`<<` takes in mappings only");
            };
            for (key, node) in others {
                if entries.iter().all(|(own, _)| *own != key) {
                    entries.push((key, node));
                }
            }
        }
        Ok(entries)
    }

    /// Adds a node that the document itself has; its children have been counted before it.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        let own_text = match &node.value {
            Value::Plain(text) | Value::Quoted(text) => text.len(),
            Value::Binary(bytes) => bytes.len(),
            Value::Null | Value::List(_) | Value::Map(_) => 0,
        };
        self.count(1, own_text)?;
        if anchor != 0 {
            // What is kept for its aliases takes memory as well.
            let (nodes, text, _) = size(&node);
            self.count(nodes, text)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.put(node)
    }

    /// Adds what an alias stands for, as if it were written out.
    fn add_copy(&mut self, anchor: usize) -> Result<(), YamlError> {
        let Some(node) = self.anchors.get(&anchor) else {
            return self.wrong("an alias of something that is not complete yet");
        };
        let (nodes, text, depth) = size(node);
        if self.open.len() + depth > DEPTH_MAX {
            return self.wrong("nested more than 32 deep");
        }
        // Counted before it is copied.
        self.count(nodes, text)?;
        match self.anchors.get(&anchor).cloned() {
            Some(node) => self.put(node),
            None => Ok(()),
        }
    }

    fn put(&mut self, node: Node) -> Result<(), YamlError> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.kind {
            Kind::List(items) => items.push(node),
            Kind::Map {
                entries,
                key,
                merged,
            } => match (key.take(), node.value) {
                (Some(name), value) if name == MERGE => merged.push(Node { value, ..node }),
                (Some(name), value) => {
                    let node = Node { value, ..node };
                    match entries.iter_mut().find(|(other, _)| *other == name) {
                        Some((_, before)) => {
                            self.twice.push((node.place.clone(), name));
                            *before = node;
                        }
                        None => entries.push((name, node)),
                    }
                }
                (None, Value::Plain(name) | Value::Quoted(name)) => *key = Some(name),
                (None, Value::Null) => *key = Some("null".into()),
                (None, _) => return self.wrong("a key that is no text"),
            },
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, text: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        if self.nodes > NODES_MAX {
            return self.wrong("more than 20000 values, aliases written out");
        }
        if self.text > TEXT_MAX {
            return self.wrong("more than 8 MiB of text, aliases written out");
        }
        Ok(())
    }

    fn wrong<T>(&self, what: &str) -> Result<T, YamlError> {
        Err(YamlError::Shape {
            place: self.place.clone(),
            what: printable(what, 200),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree in one line, scalars as they are written, quotes around those that have any.
    fn told(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".into(),
            Value::Plain(text) => text.clone(),
            Value::Quoted(text) => format!("{text:?}"),
            Value::Binary(bytes) => format!("{bytes:?}"),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(told).collect();
                format!("[{}]", items.join(" "))
            }
            Value::Map(entries) => {
                let entry = |(key, value): &(String, Node)| format!("{key}={}", told(value));
                let entries: Vec<String> = entries.iter().map(entry).collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    fn tree(text: &str) -> String {
        told(&parse("x", text).unwrap().root)
    }

    fn error(text: &str) -> String {
        parse("user-data", text).unwrap_err().to_string()
    }

    #[test]
    fn a_document_becomes_its_tree_with_scalars_as_they_are_written() {
        assert_eq!(
            tree("a: 0644\nb: [x, \"~\", ~]\nc:\n  d: |\n    one\n    two\ne:\n"),
            r#"{a=0644 b=[x "~" ~] c={d="one\ntwo\n"} e=~}"#
        );
        assert_eq!(tree(""), "~");
        assert_eq!(tree("x: !!binary aGk="), "{x=[104, 105]}");
        assert_eq!(tree("x: !!str 5"), r#"{x="5"}"#);
    }

    #[test]
    fn an_alias_is_what_it_stands_for() {
        assert_eq!(tree("a: &x [1]\nb: *x\n"), "{a=[1] b=[1]}");
    }

    #[test]
    fn a_merge_key_takes_in_what_the_mapping_lacks_the_first_named_first() {
        let text = "a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}\nc: {<<: [{y: 3}, *a]}\n";
        assert_eq!(tree(text), "{a={x=1 y=1} b={y=2 x=1} c={y=3 x=1}}");
        assert!(error("a: {<<: 1}\n").contains("`<<` takes in mappings only"));
    }

    #[test]
    fn of_a_key_that_is_there_twice_the_last_counts_and_that_is_told() {
        let document = parse("x", "a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(told(&document.root), "{a=3 b=2}");
        let told: Vec<String> = document
            .twice
            .iter()
            .map(|(place, key)| format!("{place}: {key}"))
            .collect();
        assert_eq!(told, ["x line 3: a"]);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_by_its_size_when_written_out() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{below}]\n");
        }
        let error = error(&bomb);
        assert!(error.contains("more than 20000 values"), "{error}");
        let long = "x".repeat(1 << 20);
        let wide = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(100));
        let error = self::error(&wide);
        assert!(error.contains("8 MiB of text"), "{error}");
    }

    #[test]
    fn depth_and_a_second_document_are_refused() {
        for (document, named) in [
            ("[".repeat(100) + &"]".repeat(100), "32 deep"),
            ("a: 1\n---\nb: 2\n".into(), "second document"),
            ("? [a]\n: b\n".into(), "a key that is no text"),
            ("a: &a [*a]\n".into(), "alias"),
            ("a: [".into(), "line 2"),
        ] {
            let error = error(&document);
            assert!(error.starts_with("user-data"), "{error}");
            assert!(error.contains(named), "{document}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_parser(text in "[-a&*?:!|>\\[\\]{},#'\"<\t\n ~x0-9]{0,120}") {
            let _ = parse("x", &text);
        }

        #[test]
        fn no_characters_upset_the_parser(text in any::<String>()) {
            let _ = parse("x", &text);
        }
    }
}
