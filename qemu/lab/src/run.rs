//! Doing an experiment with PID 1 keeping the guest's clock.

pub(crate) mod course;
mod experiment;
mod guest;
mod host;
mod machine;
mod outcome;
pub(crate) mod recorder;
mod recovery;
mod repair;
pub(crate) mod sample;
pub(crate) mod session;
mod source;
pub(crate) mod track;
pub(crate) mod variant;

pub use experiment::run;
pub(crate) use outcome::SampleError;
pub use outcome::{ExperimentError, NicGuest, Outcome, Progress};
