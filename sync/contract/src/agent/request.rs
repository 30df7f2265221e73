//! What a host asks the agent for: one object, as in QMP's own input (docs/interop/qmp-spec.rst).

use alloc::string::String;

use serde_json::{Map, Value};
use thiserror::Error;

/// A command with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its name; there may be no such command.
    pub command: String,
    /// Its arguments, of whatever types.
    pub arguments: Map<String, Value>,
    /// What goes back with the answer, as it came.
    pub id: Option<Value>,
}

/// Why something is no request, in the words that QEMU's own agent has for it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// It is no JSON.
    #[error("JSON parse error, {0}")]
    Json(String),
    /// It is JSON, and no object.
    #[error("QMP input must be a JSON object")]
    NoObject,
    /// A member is of another type.
    #[error("QMP input member '{member}' must be {expected}")]
    Type {
        /// Which.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// There is a member that means nothing.
    #[error("QMP input member '{0}' is unexpected")]
    Unexpected(String),
    /// It names no command.
    #[error("QMP input lacks member 'execute'")]
    NoCommand,
}

/// The longest part of a request that is given back in an error.
const SHOWN_MAX: usize = 64;

impl Request {
    /// Reads one.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| RequestError::Json(alloc::format!("{error}")))?;
        let Value::Object(members) = value else {
            return Err(RequestError::NoObject);
        };
        let (mut command, mut arguments, mut id) = (None, None, None);
        for (name, value) in members {
            match (name.as_str(), value) {
                ("execute", Value::String(text)) => command = Some(text),
                ("execute", _) => {
                    return Err(RequestError::Type {
                        member: "execute",
                        expected: "a string",
                    });
                }
                ("arguments", Value::Object(map)) => arguments = Some(map),
                ("arguments", _) => {
                    return Err(RequestError::Type {
                        member: "arguments",
                        expected: "an object",
                    });
                }
                ("id", value) => id = Some(value),
                _ => return Err(RequestError::Unexpected(shown(&name).into())),
            }
        }
        Ok(Self {
            command: command.ok_or(RequestError::NoCommand)?,
            arguments: arguments.unwrap_or_default(),
            id,
        })
    }
}

/// As much of a text as an error has room for.
fn shown(text: &str) -> &str {
    let end = text.floor_char_boundary(SHOWN_MAX);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn error(text: &str) -> String {
        Request::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_request_has_a_command_and_maybe_arguments_and_an_id() {
        let text = br#"{"execute":"guest-sync","arguments":{"id":7},"id":"a"}"#;
        let request = Request::parse(text).unwrap();
        assert_eq!(request.command, "guest-sync");
        assert_eq!(request.arguments["id"], json!(7));
        assert_eq!(request.id, Some(json!("a")));
        let bare = Request::parse(br#"{"execute":"guest-ping"}"#).unwrap();
        assert!(bare.arguments.is_empty() && bare.id.is_none());
    }

    #[test]
    fn what_is_no_request_is_told_in_qemus_words() {
        assert!(error("{\"execute\":}").starts_with("JSON parse error, "));
        for (text, told) in [
            ("[]", "QMP input must be a JSON object"),
            ("{}", "QMP input lacks member 'execute'"),
            (
                "{\"execute\":1}",
                "QMP input member 'execute' must be a string",
            ),
            (
                "{\"execute\":\"a\",\"arguments\":[]}",
                "QMP input member 'arguments' must be an object",
            ),
            (
                "{\"execute\":\"a\",\"x\":1}",
                "QMP input member 'x' is unexpected",
            ),
        ] {
            assert_eq!(error(text), told);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_reader(bytes: Vec<u8>, text in "\\PC{0,60}") {
            for bytes in [bytes, alloc::format!("{{\"execute\":{text}}}").into_bytes()] {
                if let Err(error) = Request::parse(&bytes) {
                    prop_assert!(error.to_string().len() < 400);
                }
            }
        }
    }
}
