//! What can go wrong with a machine, each with the way out.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::accel::Accelerator;
use crate::file_error::FileError;
use crate::port::PortError;
use crate::qmp::QmpError;
use crate::runtime_dir::RuntimeDirError;

use super::exit::{Exit, ExitCause, write_tail};

/// Why a machine did not start, did not answer, or ended.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// There is no place for its sockets.
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// One of its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The process could not be started at all.
    #[error("cannot start QEMU through `setpriv` (package util-linux): {0}")]
    Spawn(io::Error),
    /// This host refused a thread, a pipe, a socket.
    #[error("the host is out of something that a machine needs: {0}")]
    Host(io::Error),
    /// QEMU exited before it had connected.
    #[error("QEMU did not start: {0}")]
    Refused(ExitCause),
    /// QEMU did not connect in time.
    #[error(
        "QEMU was started but its monitor did not connect in time; is the host overloaded? QEMU \
         says: {}", if stderr.is_empty() { "nothing" } else { stderr }
    )]
    NoMonitor {
        /// The end of its standard error.
        stderr: String,
    },
    /// The monitor.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// A port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// It could not be migrated to another QEMU.
    #[error("cannot {action}: {why}")]
    Migration {
        /// What was being done.
        action: &'static str,
        /// Why not.
        why: String,
    },
    /// The machine was configured without a test port.
    #[error("the machine has no test port; only test images have the fault program behind it")]
    NoTestPort,
    /// The machine was configured without ports for commands.
    #[error("the machine runs no commands; only images for that have the program that does")]
    NoCommandPorts,
    /// A command could not be run.
    #[error("the guest can't run it: {0}")]
    Command(String),
    /// Something did not come in time though the machine seems to be well.
    #[error("{}", DeadlineText { awaited, after, accelerator, console })]
    Deadline {
        /// What was waited for.
        awaited: &'static str,
        /// How long the machine had been running.
        after: Duration,
        /// What it runs on.
        accelerator: Accelerator,
        /// The console's last lines.
        console: Vec<String>,
    },
    /// The machine ended, or can't go on.
    #[error("{0}")]
    Exited(Box<Exit>),
}

struct DeadlineText<'a> {
    awaited: &'a &'static str,
    after: &'a Duration,
    accelerator: &'a Accelerator,
    console: &'a [String],
}

impl fmt::Display for DeadlineText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the machine runs, but {} did not come ({} s after its start); {}",
            self.awaited,
            self.after.as_secs(),
            match self.accelerator {
                Accelerator::Kvm => "if the console shows no progress, try --accel tcg",
                Accelerator::Nested | Accelerator::Tcg =>
                    "if the console shows progress, the host is too slow or too busy: run fewer \
                     things beside it",
            }
        )?;
        write_tail(f, self.console)
    }
}
