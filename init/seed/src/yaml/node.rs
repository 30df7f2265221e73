//! The tree that a document becomes.

use std::fmt;
use std::rc::Rc;

/// A value and where it is written.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where.
    pub place: Place,
    /// What.
    pub value: Value,
}

/// A line of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The document, as messages name it.
    pub document: Rc<str>,
    /// Its line, from 1; 0 where lines say nothing.
    pub line: usize,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: empty, `~` or `null`.
    Null,
    /// A scalar as it is written, without quotes: it may stand for a number or a boolean.
    Plain(String),
    /// A scalar in quotes, or a block of text.
    Quoted(String),
    /// `!!binary`
    Binary(Vec<u8>),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order in which it is written.
    Map(Vec<(String, Node)>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.document),
            line => write!(f, "{} line {line}", self.document),
        }
    }
}

/// How many nodes, bytes of text and levels a node has.
pub(super) fn size(node: &Node) -> (usize, usize, usize) {
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
    match &node.value {
        Value::Null => (1, 0, 0),
        Value::Plain(text) | Value::Quoted(text) => (1, text.len(), 0),
        Value::Binary(bytes) => (1, bytes.len(), 0),
        Value::List(items) => sum(&mut items.iter(), 0),
        Value::Map(entries) => {
            let keys = entries.iter().map(|(key, _)| key.len()).sum();
            sum(&mut entries.iter().map(|(_, value)| value), keys)
        }
    }
}
