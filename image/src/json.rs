//! JSON files of an image, laid out for people.

use serde::Serialize;

/// A file's content, with a newline at its end so that `cat` shows it well. Only for values made of
/// numbers, texts, lists and structs, which always have a JSON form.
pub(crate) fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).unwrap_or_default();
    json.push(b'\n');
    json
}
