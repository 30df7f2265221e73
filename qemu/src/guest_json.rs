//! What a guest says, as JSON: its texts end up on terminals and in logs, so no control character of
//! theirs gets any further than here.

use noonmark_contract::seed::instance::printable;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads one message. Control characters in its texts, which could move a terminal's cursor or rename its
/// window, become escapes that are readable.
pub(crate) fn from_guest<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(cleaned(serde_json::from_slice(line)?))
}

fn cleaned(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable(&text, usize::MAX)),
        Value::Array(values) => values.into_iter().map(cleaned).collect(),
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| (printable(&key, usize::MAX), cleaned(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use noonmark_contract::record::{Event, Record};

    use super::*;

    #[test]
    fn no_control_character_of_a_guest_gets_through_wherever_it_stands() {
        let hostile = r#"{"a\u001b[2J":["x\u001b]0;title\u0007",{"b":"\u009b1m\r\n\u007f"}],"c":-9223372036854775808}"#;
        let read: BTreeMap<String, Value> = from_guest(hostile.as_bytes()).unwrap();
        let text = format!("{read:?}");
        assert!(!text.chars().any(char::is_control), "{text}");
        assert_eq!(read["c"], i64::MIN);
        assert!(read.contains_key("a\\u{1b}[2J"), "{text}");
    }

    #[test]
    fn a_failures_text_is_shown_without_its_escape_sequences() {
        let line = br#"{"type":"event","v":1,"seq":1,"time_ns":1,"uptime_ns":1,"event":"failure","what":"\u001b[31mred"}"#;
        match from_guest(line) {
            Ok(Record::Event(record)) => match record.event {
                Event::Failure { what } => assert_eq!(what, "\\u{1b}[31mred"),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}
