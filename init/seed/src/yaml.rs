//! YAML as a tree of bounded size.
//!
//! A seed is not trusted: depth, nodes and text are counted, with what aliases stand for as if it
//! were written out, so that no document takes more memory than it may. Scalars stay as they are
//! written: what `0644`, `1.10` and `yes` mean is up to the key that has them. A deserializer for
//! serde makes numbers and booleans of them before the key's reader sees them.

use std::collections::BTreeMap;

use noonmark_contract::seed::instance::printable;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use thiserror::Error;

use crate::content;

/// How many nodes a document may have, aliases written out.
const NODES_MAX: usize = 20_000;

/// How deep they may be nested.
const DEPTH_MAX: usize = 32;

/// How many bytes of text they may have, aliases written out.
const TEXT_MAX: usize = 8 << 20;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Nothing: empty, `~` or `null`.
    Null,
    /// A scalar as it is written.
    Text(String),
    /// `!!binary`
    Binary(Vec<u8>),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order in which it is written.
    Map(Vec<(String, Node)>),
}

/// A document that is not taken.
#[derive(Debug, Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("{0}")]
    Syntax(#[from] ScanError),
    /// It is too large or too deep.
    #[error("line {line}: {what}")]
    Bound {
        /// Where.
        line: usize,
        /// Which bound it exceeds.
        what: &'static str,
    },
    /// It is YAML that no configuration needs.
    #[error("line {line}: {what}")]
    Shape {
        /// Where.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// Reads the one document of a text.
///
/// # Errors
/// [`YamlError`].
pub fn parse(text: &str) -> Result<Node, YamlError> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event?;
        builder.line = span.start.line();
        builder.take(event)?;
    }
    Ok(builder.root.unwrap_or(Node::Null))
}

/// A collection that is not complete yet.
enum Open {
    List(Vec<Node>),
    Map {
        entries: Vec<(String, Node)>,
        key: Option<String>,
    },
}

/// Makes the tree out of the parser's events.
#[derive(Default)]
struct Builder {
    line: usize,
    root: Option<Node>,
    open: Vec<(Open, usize)>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    text: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(&text, style, tag.as_deref())?;
                self.add(node, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::List(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.begin(
                Open::Map {
                    entries: Vec::new(),
                    key: None,
                },
                anchor,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.add_copy(anchor),
            Event::DocumentStart(_) if self.root.is_some() => {
                self.shape("a second document; one is expected")
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, YamlError> {
        if tag.is_some_and(|tag| tag.suffix == "binary") {
            return content::base64(text.as_bytes())
                .map(Node::Binary)
                .or_else(|error| self.shape(&format!("!!binary: {error}")));
        }
        let nothing = matches!(text, "" | "~" | "null" | "Null" | "NULL");
        Ok(if style == ScalarStyle::Plain && nothing {
            Node::Null
        } else {
            Node::Text(text.into())
        })
    }

    fn begin(&mut self, open: Open, anchor: usize) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return self.bound("nested more than 32 deep");
        }
        self.open.push((open, anchor));
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some((open, anchor)) = self.open.pop() else {
            return self.shape("an end without a beginning");
        };
        let node = match open {
            Open::List(items) => Node::List(items),
            Open::Map { entries, .. } => Node::Map(entries),
        };
        self.add(node, anchor)
    }

    /// Adds a node that the document itself has; its children have been counted before it.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        let own_text = match &node {
            Node::Text(text) => text.len(),
            Node::Binary(bytes) => bytes.len(),
            Node::Null | Node::List(_) | Node::Map(_) => 0,
        };
        self.count(1, own_text)?;
        if anchor != 0 {
            // What is kept for its aliases takes memory as well.
            let (nodes, text, _) = size(&node);
            self.count(nodes, text)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node)
    }

    /// Adds what an alias stands for, as if it were written out.
    fn add_copy(&mut self, anchor: usize) -> Result<(), YamlError> {
        let Some(node) = self.anchors.get(&anchor) else {
            return self.shape("an alias of something that is not complete yet");
        };
        let (nodes, text, depth) = size(node);
        if self.open.len() + depth > DEPTH_MAX {
            return self.bound("nested more than 32 deep");
        }
        // Counted before it is copied.
        self.count(nodes, text)?;
        match self.anchors.get(&anchor).cloned() {
            Some(node) => self.place(node),
            None => Ok(()),
        }
    }

    fn place(&mut self, node: Node) -> Result<(), YamlError> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((Open::List(items), _)) => items.push(node),
            Some((Open::Map { entries, key }, _)) => match (key.take(), node) {
                (Some(name), value) => entries.push((name, value)),
                (None, Node::Text(name)) => {
                    if entries.iter().any(|(other, _)| *other == name) {
                        let name = printable(&name, 80);
                        return self.shape(&format!("the key `{name}` is there twice"));
                    }
                    *key = Some(name);
                }
                (None, _) => return self.shape("a key that is no text"),
            },
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, text: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        if self.nodes > NODES_MAX {
            return self.bound("more than 20000 values, aliases written out");
        }
        if self.text > TEXT_MAX {
            return self.bound("more than 8 MiB of text, aliases written out");
        }
        Ok(())
    }

    fn bound<T>(&self, what: &'static str) -> Result<T, YamlError> {
        Err(YamlError::Bound {
            line: self.line,
            what,
        })
    }

    fn shape<T>(&self, what: &str) -> Result<T, YamlError> {
        Err(YamlError::Shape {
            line: self.line,
            what: what.into(),
        })
    }
}

/// How many nodes, bytes of text and levels a node has.
fn size(node: &Node) -> (usize, usize, usize) {
    let sum = |children: &mut dyn Iterator<Item = &Node>, keys: usize| {
        let start = (1, keys, 0);
        let (nodes, text, depth) = children.fold(start, |(nodes, text, depth), child| {
            let (more_nodes, more_text, child_depth) = size(child);
            (
                nodes + more_nodes,
                text + more_text,
                usize::max(depth, child_depth),
            )
        });
        (nodes, text, depth + 1)
    };
    match node {
        Node::Null => (1, 0, 0),
        Node::Text(text) => (1, text.len(), 0),
        Node::Binary(bytes) => (1, bytes.len(), 0),
        Node::List(items) => sum(&mut items.iter(), 0),
        Node::Map(entries) => {
            let keys = entries.iter().map(|(key, _)| key.len()).sum();
            sum(&mut entries.iter().map(|(_, value)| value), keys)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.into())
    }

    #[test]
    fn a_document_becomes_its_tree_with_scalars_as_they_are_written() {
        let tree = parse("a: 0644\nb: [x, \"~\", ~]\nc:\n  d: |\n    one\n    two\ne:\n").unwrap();
        let expected = Node::Map(vec![
            ("a".into(), text("0644")),
            (
                "b".into(),
                Node::List(vec![text("x"), text("~"), Node::Null]),
            ),
            (
                "c".into(),
                Node::Map(vec![("d".into(), text("one\ntwo\n"))]),
            ),
            ("e".into(), Node::Null),
        ]);
        assert_eq!(tree, expected);
        assert_eq!(parse("").unwrap(), Node::Null);
        assert_eq!(
            parse("x: !!binary aGk=").unwrap(),
            Node::Map(vec![("x".into(), Node::Binary(b"hi".to_vec()))])
        );
    }

    #[test]
    fn an_alias_is_what_it_stands_for() {
        let tree = parse("a: &x [1]\nb: *x\n").unwrap();
        let one = Node::List(vec![text("1")]);
        let expected = Node::Map(vec![("a".into(), one.clone()), ("b".into(), one)]);
        assert_eq!(tree, expected);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_by_its_size_when_written_out() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{below}]\n");
        }
        let error = parse(&bomb).unwrap_err().to_string();
        assert!(error.contains("more than 20000 values"), "{error}");
        let long = "x".repeat(1 << 20);
        let wide = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(100));
        let error = parse(&wide).unwrap_err().to_string();
        assert!(error.contains("8 MiB of text"), "{error}");
    }

    #[test]
    fn depth_twice_the_same_key_and_a_second_document_are_refused() {
        for (document, named) in [
            ("[".repeat(100) + &"]".repeat(100), "32 deep"),
            ("a: 1\na: 2\n".into(), "`a` is there twice"),
            ("a: 1\n---\nb: 2\n".into(), "second document"),
            ("? [a]\n: b\n".into(), "a key that is no text"),
            ("a: &a [*a]\n".into(), "alias"),
            ("a: [".into(), "line 2"),
        ] {
            let error = parse(&document).unwrap_err().to_string();
            assert!(error.contains(named), "{document}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_parser(text in "[-a&*?:!|>\\[\\]{},#'\" \n\t~x0-9]{0,120}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_characters_upset_the_parser(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
