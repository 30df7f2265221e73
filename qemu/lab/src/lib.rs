//! The experiment: disturb a guest's clock, and measure how it gets right again.
//!
//! In reading order:
//!
//! - [`fault`]: what can be done to a clock, what each fault is called, and which of them an
//!   experiment does in which order;
//! - [`run`]: doing them in a guest whose clock PID 1 keeps;
//! - [`peer`]: the same with another program that keeps the clock, and the clock undisturbed;
//! - [`stats`]: percentiles, and whether one set of times is longer than another;
//! - [`report`]: what was measured, as JSON, the limits that it is held to, and two of them compared;
//! - [`text`], [`page`] and [`junit`]: the same for a person's terminal and browser, and for CI.

pub mod fault;
#[cfg(test)]
mod fixture;
pub mod junit;
pub mod page;
pub mod peer;
pub mod report;
pub mod run;
pub mod stats;
pub mod text;
