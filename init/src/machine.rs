//! The machine around the clock and the services: devices that come and go, the power button, signals,
//! the guest agent, the freeze for a snapshot, and the machine's end.

pub mod agent;
pub mod button;
pub mod freeze;
pub mod power;
pub mod shutdown;
pub mod signals;
pub mod uevents;
pub mod watchdog;
