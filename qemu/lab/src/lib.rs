//! The experiment: disturb a guest's clock, and measure how it gets right again.

mod account;
pub mod bench;
mod blank;
pub mod compare;
mod disturb;
pub mod document;
pub mod evidence;
pub mod fault;
#[cfg(test)]
mod fixture;
pub mod gate;
mod guest;
pub mod host;
pub mod html;
mod judge;
pub mod junit;
pub mod limits;
mod pause;
pub mod peer;
pub mod plan;
pub mod preset;
pub mod report;
mod run;
mod session;
pub mod soak;
mod source;
pub mod stats;
pub mod steady;
pub mod table;

pub use run::{ExperimentError, NicGuest, Outcome, Progress, run};
