//! The clock as PID 1 reaches it: the engine's sources, and what carries out its actions.

pub mod clock_set;
pub mod discipline;
pub mod kernel;
pub mod ntp_socket;
pub mod rtc;
pub mod timechannel;
pub mod utc;
pub mod vmclock;
