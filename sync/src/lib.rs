//! The clock logic of noonmark, sans I/O: samples and events in, actions and records out.
//!
//! Nothing here reads a clock, opens a file or can fail for a reason outside its arguments: time
//! enters as a value, and what is to be done leaves as an [`engine::Action`]. That is what lets the
//! closed-loop simulator under `tests/` run years of a machine's life in seconds.
//!
//! | to be read in this order | what it does |
//! |---|---|
//! | `kernel_clock` | the two settings by which the kernel's clock is corrected: frequency and tick |
//! | `deviation` | a reading against what was expected |
//! | `estimator` | the reference against RAW: the estimate and its bound, from accepted readings |
//! | `discipline` | the guest's clock: what it was told to do, and what it should therefore read |
//! | `policy` | what is slewed, and what is stepped |
//! | `ladder` | the sources, best first: which is followed, which may be tried, how each has done |
//! | `suspicion` | whether a source that contradicts the estimate is right or a falseticker |
//! | `envelope` | where reference and clock are expected while nothing happens |
//! | `stopwatch` | whether the machine stood still, by its processor's counter |
//! | `indicators` | counters for operators: disruptions, time to repair, availability, alerts |
//! | [`engine`] | all of these together: what to do on each input |
//!
//! Beside the engine stand [`burst`], which makes one reading of some exchanges over the host's
//! time channel, and [`select`], which finds the truechimers among several time servers.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod burst;
mod deviation;
mod discipline;
pub mod engine;
mod envelope;
mod estimator;
mod indicators;
mod kernel_clock;
mod ladder;
mod policy;
pub mod select;
mod stopwatch;
mod suspicion;
