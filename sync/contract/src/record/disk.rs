//! A data disk's part of the status record.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// What came of a `[[mount]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// The label that is looked for.
    pub label: String,
    /// Where it is, or was to be, mounted.
    pub path: String,
    /// How far that is.
    pub state: DiskState,
    /// The disk, e.g. `vdb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why it is not mounted, or what is wrong with it all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How far a data disk has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// It is being looked for or mounted.
    Waiting,
    /// It is mounted.
    Mounted,
    /// There is none of this label.
    Absent,
    /// There is one, and it can't be mounted.
    Failed,
}
