//! The services' part of the status record.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// How one service is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: ServiceState,
    /// Its first process, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How often it was started again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u64,
    /// How it ended the last time, in words: `exited 1`, `killed by signal 9`, `/x: No such file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// What it says of itself (`STATUS=`), printable and at most 200 bytes long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_text: Option<String>,
    /// How many datagrams came for it that were not of its processes, or said nothing known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub notifications_refused: u64,
    /// What it and its children use now; none where it does not run or this is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_kib: Option<u64>,
    /// How often it was killed because there was no memory left for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oom_kills: u64,
    /// How many processes or threads it was refused because it had `tasks_max` of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tasks_refused: u64,
    /// How much of the output to its virtio-serial port was dropped, of all services that write
    /// there, because no host read it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub output_dropped_bytes: u64,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// It waits for its moment.
    Waiting,
    /// It runs, and has not said yet that it is ready.
    Starting,
    /// It runs.
    Running,
    /// It stands still until the clock is right.
    Frozen,
    /// It ended and will be started again.
    Backoff,
    /// It ended as it should, or was stopped.
    Stopped,
    /// It ended otherwise, or could not be started, and stays so.
    Failed,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
