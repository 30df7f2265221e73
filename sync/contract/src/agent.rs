//! The guest agent: its port and commands, what comes by the port, and what its program and PID 1 say to
//! each other.
//!
//! The commands are those of QEMU's guest agent, by their names in its schema (qga/qapi-schema.json).
//! Those that run programs or touch files in the guest are not among them, and none of them sets the
//! clock: `guest-set-time` has PID 1 look at it.

mod link;
mod objects;
mod request;

pub use link::{ANSWER_MAX, Answer, Ask, Question, WHY_MAX};
pub use objects::{Found, OBJECT_MAX, Objects, SENTINEL};
pub use request::{Request, RequestError};

/// The port's name on the virtio-serial bus.
pub const PORT: &str = "org.qemu.guest_agent.0";

/// The service that answers there.
pub const SERVICE: &str = "noonmark-agent";

/// How long an image's guest stays frozen at most where guest.toml says nothing, seconds.
pub const FREEZE_LIMIT_S: u32 = 60;

/// The commands that there are, in the schema's order.
pub const COMMANDS: [&str; 16] = [
    "guest-sync-delimited",
    "guest-sync",
    "guest-ping",
    "guest-get-time",
    "guest-set-time",
    "guest-info",
    "guest-shutdown",
    "guest-fsfreeze-status",
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-thaw",
    "guest-network-get-interfaces",
    "guest-get-vcpus",
    "guest-get-fsinfo",
    "guest-get-host-name",
    "guest-get-timezone",
    "guest-get-osinfo",
];
