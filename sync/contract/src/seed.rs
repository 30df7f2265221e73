//! What the seed's reader tells PID 1.
//!
//! The reader (`noonmark-seed`) is a short-lived child without rights; PID 1 takes in only its
//! [`verdict`], and checks that again.

pub mod instance;
pub mod verdict;
