//! The experiment: disturb a guest's clock, and measure how it gets right again.

pub mod fault;
pub mod report;
