//! A guest's status record for people and for machines; pure functions from the record to text.

pub mod prometheus;
pub mod text;

#[cfg(test)]
mod example;
