//! The documents of a seed; and what user-data and vendor-data say, kept apart although they are read as
//! one.

use noonmark_contract::seed::instance::Instance;

use crate::value::Field;

/// The documents of a seed, in the order in which they count: of two words on the same setting the
/// later one's stays.
pub const FILES: [&str; 4] = ["meta-data", "network-config", "vendor-data", "user-data"];

/// What user-data and vendor-data say, each for itself.
#[derive(Debug, Default)]
pub struct Instances {
    /// user-data's
    pub user: Instance,
    /// vendor-data's
    pub vendor: Instance,
    /// Whether no document's host name counts (`preserve_hostname`).
    pub preserve_hostname: bool,
    /// Whether meta-data's host name counts with its domain: they have none, and prefer a whole one.
    pub prefer_whole_name: bool,
}

impl Instances {
    /// That of the document in which this value is written.
    pub fn of(&mut self, field: &Field<'_>) -> &mut Instance {
        self.of_document(&field.place().document)
    }

    /// That of the document, or of the part of one, with this name in messages.
    pub fn of_document(&mut self, name: &str) -> &mut Instance {
        match is_vendor_data(name) {
            true => &mut self.vendor,
            false => &mut self.user,
        }
    }
}

/// Whether the document, or part of one, with this name in messages is the platform's: `vendor-data`, or a
/// ConfigDrive's `vendor_data.json`.
#[must_use]
pub fn is_vendor_data(name: &str) -> bool {
    name.starts_with("vendor")
}
