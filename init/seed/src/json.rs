//! JSON as the same tree that YAML becomes, of as bounded a size. Its places are without lines: most of it
//! is written in one.

use std::rc::Rc;

use crate::value::{Checked, Field};
use crate::yaml::{NODES_MAX, Node, Place, Value};

/// The tree of a document; `name` is its name in messages.
///
/// # Errors
/// If it is no JSON, or too large.
pub fn parse(name: &str, text: &str) -> Checked<Node> {
    let mut reader = Reader {
        document: name.into(),
        nodes: 0,
    };
    match serde_json::from_str(text) {
        Ok(value) => reader.node(value),
        Err(error) => Field::root(&reader.leaf(Value::Null)).wrong(format!("no JSON: {error}")),
    }
}

struct Reader {
    document: Rc<str>,
    nodes: usize,
}

impl Reader {
    fn leaf(&self, value: Value) -> Node {
        let place = Place {
            document: self.document.clone(),
            line: 0,
        };
        Node { place, value }
    }

    /// serde_json has bounded the depth.
    fn node(&mut self, value: serde_json::Value) -> Checked<Node> {
        use serde_json::Value as Json;
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let problem = format!("more than {NODES_MAX} values");
            return Field::root(&self.leaf(Value::Null)).wrong(problem);
        }
        let value = match value {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Plain(value.to_string()),
            Json::Number(number) => Value::Plain(number.to_string()),
            Json::String(text) => Value::Quoted(text),
            Json::Array(items) => {
                let items = items.into_iter().map(|item| self.node(item));
                Value::List(items.collect::<Checked<_>>()?)
            }
            Json::Object(entries) => {
                let entries = entries.into_iter();
                let entries = entries.map(|(key, value)| Ok((key, self.node(value)?)));
                Value::Map(entries.collect::<Checked<_>>()?)
            }
        };
        Ok(self.leaf(value))
    }
}
