//! What the status record says of an instance: its settings and their origin, and its seed.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// A setting, and who had the last word on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective {
    /// In the unit of its key.
    pub value: String,
    /// Whose word it is.
    pub origin: Origin,
}

/// Who set something; the later of the list has the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The image.
    Image,
    /// The seed disk.
    Seed,
    /// The kernel command line.
    Cmdline,
}

/// What came of looking for a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// How far that is.
    pub state: SeedState,
    /// The disk that it was found on, e.g. `vda`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `instance-id` of its meta-data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// What it says that is honoured, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<String>,
    /// What it says that does nothing here, each with its place and the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// What it says that is wrong or not allowed, and so is left out, each with its place and the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Why nothing of it is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How far a seed has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedState {
    /// The image looks for none.
    #[default]
    Off,
    /// It is being looked for or read.
    Looking,
    /// There is none.
    Absent,
    /// It is applied, but for what is told as ignored or refused.
    Applied,
    /// There is one, and nothing of it is applied.
    Refused,
}
