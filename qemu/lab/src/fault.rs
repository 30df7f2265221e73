//! What can be done to a clock: the faults, their names, which of them an experiment does, and in
//! which order.

mod definition;
mod name;
pub(crate) mod plan;
mod preset;

pub(crate) use definition::{Action, Interruption, LEAVE_MAX, MachineVariant, SourceFault};
pub use definition::{Family, Fault, Misbehaviour, SKEW_ERROR_MAX};
pub use name::{FaultError, FaultSet};
pub use plan::Plan;
pub use preset::{Preset, PresetError};
