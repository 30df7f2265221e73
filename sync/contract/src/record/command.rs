//! What a host may write to the status port.

use serde::{Deserialize, Serialize};

/// One line from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// `{"get":"status"}`: answer with a status record now.
    Get(Topic),
    /// `{"kick":true}`: the host has just resumed or restored the machine; look at once.
    Kick(bool),
    /// `{"freeze":true}`: services and data disks stand still, until the machine is resumed, the host says
    /// `{"thaw":true}`, or it has lasted long enough. The event `frozen` answers.
    Freeze(bool),
    /// `{"thaw":true}`: the clock is put right, then they go on. The event `thawed` answers.
    Thaw(bool),
    /// `{"shutdown":"poweroff"}`.
    Shutdown(Shutdown),
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// The status record.
    Status,
}

/// How to go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shutdown {
    /// Turn off.
    Poweroff,
    /// Start again.
    Reboot,
    /// Stop the processors.
    Halt,
}
