//! Migrating a machine to another QEMU: live, or through its state on disk. Its sockets are made
//! anew, its status hub and its subscribers stay.
//!
//! The state goes through a Unix socket (`docs/devel/migration`), which every QEMU has; one that
//! is kept for a while is copied into a file by this program, so neither a shell nor QEMU's newer
//! `file:` is needed.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::mem;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::units::Utc;
use serde_json::{Value, json};

use crate::port;
use crate::qmp::{Qmp, QmpError};

use super::error::MachineError;
use super::machine::{Kick, Machine};
use super::spawn::{self, Spawned, Start};

/// How long a machine's state may take to get from one place to another.
const STATE_DEADLINE: Duration = Duration::from_secs(60);

/// How often QEMU is asked how far it is.
const POLL: Duration = Duration::from_millis(10);

/// How long one read or write of the state may stand still.
const STALL_DEADLINE: Duration = Duration::from_secs(20);

impl Machine {
    /// Stops the machine, saves its state to a file, ends its QEMU, and lets the machine run on in
    /// a new one after `away` and whatever is done `meanwhile`. Gives the instant at which that QEMU
    /// resumed it.
    ///
    /// # Errors
    /// Where either QEMU refuses, or is too slow; the machine is of no more use then.
    pub fn restore_after(
        &mut self,
        away: Duration,
        kick: Kick,
        meanwhile: impl FnOnce(),
    ) -> Result<Utc, MachineError> {
        self.pause()?;
        let mut state = self.save()?;
        self.hub.hold();
        self.instance.process.kill();
        thread::sleep(away);
        meanwhile();
        let next = self.spawn_next()?;
        self.instance = next.instance;
        self.ports = next.ports;
        self.hub.replace(next.status).map_err(MachineError::Host)?;
        let path = self.state_path();
        self.listen_for_state(&path)?;
        let loaded = port::connect(&path)
            .map_err(MachineError::from)
            .and_then(|stream| write_state(&mut state, stream));
        // A QEMU that refuses a state says why as it ends; the broken stream only follows from it.
        self.wait_received()?;
        loaded?;
        self.resume(kick)
    }

    /// Migrates the running machine to a new QEMU. Gives the instant at which that QEMU resumed it.
    /// What is to be done `between` is done while neither of them runs the machine.
    ///
    /// # Errors
    /// As [`Machine::restore_after`].
    pub fn migrate(&mut self, between: Option<impl FnOnce()>) -> Result<Utc, MachineError> {
        self.hub.hold();
        let next = self.spawn_next()?;
        // Dropped last first: the source's QEMU goes before what serves its ports.
        let _source_ports = mem::replace(&mut self.ports, next.ports);
        let mut source = mem::replace(&mut self.instance, next.instance);
        let deadline = Instant::now() + STATE_DEADLINE;
        let path = self.state_path();
        self.instance.qmp.forget("RESUME");
        if between.is_some() {
            // A QEMU that waits for a machine's state then leaves the machine stopped (qmp_stop).
            self.instance.qmp.execute("stop", json!({}), deadline)?;
        }
        self.listen_for_state(&path)?;
        send_state(&mut source.qmp, &path)?;
        wait_sent(&mut source.qmp, deadline)?;
        self.wait_received()?;
        self.hub.replace(next.status).map_err(MachineError::Host)?;
        if let Some(between) = between {
            between();
            self.instance.qmp.cont(deadline)?;
        }
        self.instance.wait_resumed(deadline)
    }

    /// Writes the stopped machine's state to a file that has no name.
    fn save(&mut self) -> Result<File, MachineError> {
        let deadline = Instant::now() + STATE_DEADLINE;
        let mut file = tempfile::tempfile().map_err(MachineError::Host)?;
        let path = self.state_path();
        let listener = spawn::listen(&path)?;
        send_state(&mut self.instance.qmp, &path)?;
        let copied = accept(&listener, deadline).and_then(|mut stream| {
            stream.set_read_timeout(Some(STALL_DEADLINE))?;
            io::copy(&mut stream, &mut file)
        });
        remove(&path);
        wait_sent(&mut self.instance.qmp, deadline)?;
        copied.map_err(|source| failed("save the machine's state", source.to_string()))?;
        file.seek(SeekFrom::Start(0)).map_err(MachineError::Host)?;
        Ok(file)
    }

    /// Starts a QEMU that waits for this machine's state.
    fn spawn_next(&mut self) -> Result<Spawned, MachineError> {
        self.migrations += 1;
        let start = Start::Incoming(self.migrations);
        let (config, timeouts) = (self.config(), self.timeouts());
        spawn::spawn(&self.program, config, timeouts, &self.directory, start)
    }

    /// Where a machine's state comes in.
    fn state_path(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn listen_for_state(&mut self, path: &Path) -> Result<(), MachineError> {
        remove(path);
        let deadline = Instant::now() + self.timeouts().answer();
        let uri = json!({"uri": format!("unix:{}", path.display())});
        self.instance
            .qmp
            .execute("migrate-incoming", uri, deadline)?;
        Ok(())
    }

    /// Waits until the whole state has come in.
    fn wait_received(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + STATE_DEADLINE;
        loop {
            let state = match self.instance.qmp.query_status(deadline) {
                Ok(state) => state,
                // A QEMU that can't take the state ends, and says why on its standard error.
                Err(error) => return Err(self.exit_instead_of(error)),
            };
            if state.status != "inmigrate" {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = format!("it did not come in within {} s", STATE_DEADLINE.as_secs());
                return Err(failed("restore the machine's state", why));
            }
            thread::sleep(POLL);
        }
    }

    /// Why QEMU exited where it has, else `error`.
    fn exit_instead_of(&mut self, error: QmpError) -> MachineError {
        let soon = Instant::now() + Duration::from_secs(1);
        match self.instance.process.wait(soon) {
            Some(_) => self.instance.exit_error(),
            None => error.into(),
        }
    }
}

fn send_state(qmp: &mut Qmp, path: &Path) -> Result<(), MachineError> {
    let uri = json!({"uri": format!("unix:{}", path.display())});
    qmp.execute("migrate", uri, Instant::now() + STATE_DEADLINE)?;
    Ok(())
}

/// Waits until QEMU has sent the whole state.
fn wait_sent(qmp: &mut Qmp, deadline: Instant) -> Result<(), MachineError> {
    loop {
        let answer = qmp.execute("query-migrate", json!({}), deadline)?;
        match answer["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = answer["error-desc"].as_str().unwrap_or("it gave no reason");
                return Err(failed("send the machine's state", why.to_owned()));
            }
            _ if Instant::now() >= deadline => {
                let at = answer.get("status").and_then(Value::as_str);
                let why = format!(
                    "it was not done within {} s (status {})",
                    STATE_DEADLINE.as_secs(),
                    at.unwrap_or("none")
                );
                return Err(failed("send the machine's state", why));
            }
            _ => thread::sleep(POLL),
        }
    }
}

fn write_state(state: &mut File, mut stream: UnixStream) -> Result<(), MachineError> {
    let copied = stream
        .set_write_timeout(Some(STALL_DEADLINE))
        .and_then(|()| io::copy(state, &mut stream));
    copied
        .map(drop)
        .map_err(|source| failed("restore the machine's state", source.to_string()))
}

fn accept(listener: &UnixListener, deadline: Instant) -> io::Result<UnixStream> {
    loop {
        match spawn::try_accept(listener)? {
            Some(stream) => return Ok(stream),
            None if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
            None => thread::sleep(POLL),
        }
    }
}

fn remove(path: &Path) {
    // What is left goes with the runtime directory.
    let _ = std::fs::remove_file(path);
}

fn failed(action: &'static str, why: String) -> MachineError {
    MachineError::Migration { action, why }
}
