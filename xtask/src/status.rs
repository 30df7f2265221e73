//! A guest's status record for people and for machines; pure functions from the record to text.

#[cfg(test)]
mod example;
pub mod live;
mod plot;
pub mod prometheus;
pub mod text;

use serde::Serialize;

/// The word that stands for a variant without data in the status record: `guest_step`.
fn word(variant: &impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        // This function is only called with enums without data, which serialize to their name.
        _ => String::from("unknown"),
    }
}
