//! What the host is told: `return` or `error`, as QMP has them (docs/interop/qmp-spec.rst), in the words of
//! QEMU's own agent where it has any.

use noonmark_contract::agent::SENTINEL;
use serde::Serialize;
use serde_json::{Value, json};

/// A command that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    class: &'static str,
    desc: String,
}

impl Problem {
    /// Something of no class of its own.
    pub fn new(desc: impl Into<String>) -> Self {
        Self {
            class: "GenericError",
            desc: desc.into(),
        }
    }

    /// There is no such command.
    pub fn unknown(command: &str) -> Self {
        Self {
            class: "CommandNotFound",
            desc: format!("The command {command} has not been found"),
        }
    }

    /// There is, but not in this image, or not now.
    pub fn disabled(command: &str, why: &str) -> Self {
        let reason = if why.is_empty() { "" } else { ": " };
        Self {
            class: "CommandNotFound",
            desc: format!("Command {command} has been disabled{reason}{why}"),
        }
    }

    /// An argument is missing.
    pub fn missing(name: &str) -> Self {
        Self::new(format!("Parameter '{name}' is missing"))
    }

    /// An argument is of another type.
    pub fn wrong_type(name: &str, expected: &str) -> Self {
        Self::new(format!(
            "Invalid parameter type for '{name}', expected: {expected}"
        ))
    }

    /// The command has no such argument.
    pub fn unexpected(name: &str) -> Self {
        Self::new(format!("Parameter '{name}' is unexpected"))
    }
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// This.
    Value(Value),
    /// This, behind a byte that tells it from whatever came before.
    Delimited(Value),
    /// Nothing: the machine goes down.
    Silence,
}

impl Reply {
    /// A structure of the schema.
    pub fn of(value: &impl Serialize) -> Result<Self, Problem> {
        let value = serde_json::to_value(value);
        value
            .map(Self::Value)
            .map_err(|error| Problem::new(error.to_string()))
    }

    /// An empty object: it is done.
    pub fn done() -> Self {
        Self::Value(json!({}))
    }
}

/// A reply's bytes, with the request's `id`.
pub fn line(outcome: Result<Reply, Problem>, id: Option<Value>) -> Vec<u8> {
    let (mut members, delimited) = match outcome {
        Ok(Reply::Silence) => return Vec::new(),
        Ok(Reply::Value(value)) => (json!({ "return": value }), false),
        Ok(Reply::Delimited(value)) => (json!({ "return": value }), true),
        Err(Problem { class, desc }) => {
            let error = json!({ "class": class, "desc": desc });
            (json!({ "error": error }), false)
        }
    };
    if let Some(id) = id {
        members["id"] = id;
    }
    let mut bytes = if delimited {
        vec![SENTINEL]
    } else {
        Vec::new()
    };
    bytes.extend(members.to_string().into_bytes());
    bytes.push(b'\n');
    bytes
}
