//! The freeze for a snapshot, as records tell of it.

use serde::{Deserialize, Serialize};

/// What ends a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThawedBy {
    /// The host asked for it.
    Host,
    /// The machine was resumed, here or elsewhere, and its clock has been put right.
    Resume,
    /// It lasted for as long as it may (`[agent] freeze_limit_s`).
    Limit,
    /// A part of it failed.
    Failure,
    /// The machine goes down.
    Shutdown,
}
