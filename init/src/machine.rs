//! The machine around the clock and the services: devices that come and go, the power button, signals,
//! and the machine's end.

pub mod button;
pub mod power;
pub mod shutdown;
pub mod signals;
pub mod uevents;
pub mod watchdog;
