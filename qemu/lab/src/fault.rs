//! What can be done to a clock: the faults, their names, which of them an experiment does, and in
//! which order.

mod definition;
mod family;
mod host;
mod name;
pub(crate) mod plan;
mod preset;
mod spans;

pub(crate) use definition::{Action, Interruption, MachineVariant, SourceFault};
pub use definition::{Fault, Misbehaviour, SKEW_ERROR_MAX};
pub use family::Family;
pub(crate) use family::LEAVE_MAX;
pub use host::{Daemon, HostChange, Slewer};
pub(crate) use host::{RATE_SPAN, WATCHED_AFTER};
pub use name::{FaultError, FaultSet};
pub use plan::Plan;
pub use preset::{Preset, PresetError};
