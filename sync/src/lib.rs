//! The clock logic of noonmark, sans I/O: samples and events in, actions and records out.
//!
//! Nothing here reads a clock, opens a file or can fail for a reason outside its arguments: time
//! enters as a value, and what is to be done leaves as a [`engine::Action`]. That is what lets the
//! closed-loop simulator under `tests/` run years of a machine's life in seconds.

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
pub mod select;
mod suspicion;
