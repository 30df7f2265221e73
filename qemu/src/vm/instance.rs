//! One QEMU process with its monitor and what it prints: whether it is well, and why it ended.

use std::time::{Duration, Instant};

use noonmark_contract::units::Utc;

use crate::console::Console;
use crate::process::Process;
use crate::qmp::Qmp;

use super::error::MachineError;
use super::exit::{Exit, ExitCause, KERNEL_PANIC, Symptoms, TAIL_LINES};

/// How long QEMU's last event may take once its process has ended.
const LAST_EVENT_DEADLINE: Duration = Duration::from_millis(200);

/// How long the process may take to end once it has closed its sockets.
const EXIT_DEADLINE: Duration = Duration::from_secs(5);

/// A QEMU. Its process comes first, so that it is dropped first, which ends what reads from it.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) process: Process,
    pub(super) console: Console,
    pub(super) stderr: Console,
    pub(super) qmp: Qmp,
    pub(super) started: Instant,
}

impl Instance {
    /// Why the machine is not well; none where it seems to be.
    pub(super) fn exit(&mut self) -> Option<Exit> {
        let status = self.process.exit_status();
        let mut shutdown = None;
        if status.is_some() {
            self.console.finish();
            self.stderr.finish();
            let deadline = Instant::now() + LAST_EVENT_DEADLINE;
            let event = self.qmp.wait_event("SHUTDOWN", deadline);
            shutdown = event
                .ok()
                .and_then(|event| event.data["reason"].as_str().map(str::to_owned));
        }
        let cause = Symptoms {
            status,
            shutdown: shutdown.as_deref(),
            stderr: &self.stderr.tail(TAIL_LINES).join("\n"),
            panicked: self.console.contains(KERNEL_PANIC),
        }
        .cause()?;
        Some(self.with_console(cause))
    }

    /// The error for a machine whose sockets are closed.
    pub(super) fn exit_error(&mut self) -> MachineError {
        // The sockets close a moment before the process is reaped.
        let _ = self.process.wait(Instant::now() + EXIT_DEADLINE);
        let exit = self
            .exit()
            .unwrap_or_else(|| self.with_console(ExitCause::Exited));
        MachineError::Exited(Box::new(exit))
    }

    /// The instant of the next event RESUME, by QEMU's clock, which is the host's.
    pub(super) fn wait_resumed(&mut self, deadline: Instant) -> Result<Utc, MachineError> {
        let event = self.qmp.wait_event("RESUME", deadline)?;
        event
            .timestamp
            .utc()
            .ok_or_else(|| MachineError::Migration {
                action: "tell when the machine resumed",
                why: "QEMU gave no time with its event RESUME".to_owned(),
            })
    }

    fn with_console(&self, cause: ExitCause) -> Exit {
        Exit {
            cause,
            console: self.console.tail(TAIL_LINES),
        }
    }
}
