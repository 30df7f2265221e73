//! QEMU machines that run noonmark guests: started, watched, disturbed and shut down.
//!
//! A [`Machine`] is a QEMU process together with all that belongs to it: its monitor, its console,
//! its ports, and a directory for its sockets. It is killed and its files removed when it is
//! dropped, and also when this program gets a signal or is itself killed.
//!
//! ```no_run
//! use std::path::Path;
//! use std::time::Instant;
//!
//! use noonmark_contract::record::{Command, Record, Topic};
//! use noonmark_qemu::accel::{self, Choice};
//! use noonmark_qemu::{Boot, Config, Machine, Qemu, signals};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // From now on Ctrl-C ends the machines too.
//! signals::install()?;
//!
//! // What the machine is made of.
//! let qemu = Qemu::find(None)?;
//! let accelerator = accel::choose(Choice::Auto, &qemu)?.accelerator;
//! let image = Path::new("target/noonmark/base");
//! let boot = Boot::direct(
//!     image.join("vmlinuz"),
//!     image.join("initrd.img"),
//!     &image.join("cmdline"),
//! )?;
//! let config = Config::new("example", accelerator, boot);
//!
//! // The guest tells on its status port when its clock is right for the first time.
//! let mut machine = Machine::start(&qemu, config)?;
//! let records = machine.subscribe();
//! let status = machine.wait_synced(&records, |_| {})?;
//! println!("synced by {:?}", status.source);
//!
//! // It answers a question there, in between its other records.
//! machine.send(&Command::Get(Topic::Status))?;
//! let deadline = Instant::now() + machine.timeouts().answer();
//! let status = loop {
//!     match machine.record(&records, "the guest's status", deadline)? {
//!         Record::Status(status) => break status,
//!         Record::Event(event) => println!("{}", event.event),
//!     }
//! };
//! println!("off by at most {}", status.bound_ns);
//!
//! machine.power_off()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where what is
//!
//! - What this host has: [`Qemu`] finds the program, [`accel`] decides what runs the guest's
//!   instructions, [`kvm_host`] knows of the KVM host that is itself emulated, [`firmware`] finds a UEFI.
//! - What a machine is made of: [`Config`] with its [`Boot`] and its [`Device`]s, [`nic`] for the one
//!   that can be plugged in while it runs. [`argv`] makes QEMU's arguments of it.
//! - The machine: [`Machine`], with its [`Timeouts`], the ways to its end ([`PowerOff`], [`Exit`])
//!   and its errors ([`MachineError`]). An image for commands runs them: [`Machine::run_command`], or with
//!   streams of one's own, [`Machine::start_command`].
//! - What is behind its sockets: [`Hub`] shares the status port among any number of subscribers,
//!   [`port`] is a client of the status and the test port, [`time_server`] serves the time channel,
//!   [`qmp`] talks to QEMU's monitor. [`lines`] cuts what comes into lines, [`console`] keeps what
//!   is printed.
//! - That nothing is left behind: [`process`] ends a process with its owner, [`runtime_dir`] does the
//!   same for files, [`signals`] sees to both on Ctrl-C, [`registry`] lists the machines that run.
//! - What the command line that uses it is [`called`], for errors and reports that name a command.
//!
//! A QEMU that this library did not start can be served too: [`time_server::serve`] and
//! [`port::StatusPort`] take the path of any chardev's socket.

pub mod accel;
pub mod called;
mod command;
pub mod console;
mod file_error;
pub mod firmware;
mod guest_json;
mod hub;
pub mod kvm_host;
pub mod lines;
mod outbox;
pub mod port;
pub mod process;
mod program;
pub mod qmp;
pub mod registry;
pub mod runtime_dir;
pub mod signals;
pub mod time_server;
mod vm;

pub use command::{Ended, RunningCommand, Signaller, Streams};
pub use file_error::FileError;
pub use hub::{Hub, Subscription, SubscriptionError};
pub use program::{DEFAULT_PROGRAM, Qemu, QemuError, find_in_path};
pub use vm::command::Output;
pub use vm::config::{BadCredential, Boot, CABLE_MACS, Config, Credential, Device, NET_MAC, Rtc};
pub use vm::error::MachineError;
pub use vm::exit::{Exit, ExitCause};
pub use vm::forward::{BadForward, Forward, Protocol};
pub use vm::machine::{Kick, Machine};
pub use vm::power::PowerOff;
pub use vm::timeouts::Timeouts;
pub use vm::{argv, nic};
