//! A machine that moves to another QEMU: live, or through its state on disk. Its sockets are made
//! anew, its status hub and its subscribers stay.
//!
//! The state goes through a Unix socket (`docs/devel/migration`), which every QEMU has; one that
//! is kept for a while is pumped into a file by this program, so neither a shell nor QEMU's newer
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

use super::birth::{self, Begin, Running};
use super::error::MachineError;
use super::machine::{Kick, Machine};

/// How long a machine's state may take to get from one place to another.
const STATE_DEADLINE: Duration = Duration::from_secs(60);

/// How often QEMU is asked how far it is.
const POLL: Duration = Duration::from_millis(10);

/// How long one read or write of the state may stand still.
const STALL_DEADLINE: Duration = Duration::from_secs(20);

impl Machine {
    /// Stops the machine, saves its state to a file, ends its QEMU, and lets the machine run on in
    /// a new one after `away`. Gives the instant at which that QEMU resumed it.
    ///
    /// # Errors
    /// Where either QEMU refuses, or is too slow; the machine is of no more use then.
    pub fn restore_after(&mut self, away: Duration, kick: Kick) -> Result<Utc, MachineError> {
        self.pause()?;
        let mut state = self.save()?;
        self.hub.hold();
        self.running.process.kill();
        thread::sleep(away);
        let (running, status) = self.bear_next()?;
        self.running = running;
        self.hub.replace(status).map_err(MachineError::Host)?;
        let path = self.state_path();
        self.listen_for_state(&path)?;
        let loaded = port::connect(&path)
            .map_err(MachineError::from)
            .and_then(|stream| pump_in(&mut state, stream));
        // A QEMU that refuses a state says why as it ends; the broken stream only follows from it.
        self.wait_arrived()?;
        loaded?;
        self.resume(kick)
    }

    /// Moves the running machine to a new QEMU. Gives the instant at which that QEMU resumed it.
    ///
    /// # Errors
    /// As [`Machine::restore_after`].
    pub fn migrate(&mut self) -> Result<Utc, MachineError> {
        self.hub.hold();
        let (running, status) = self.bear_next()?;
        let mut source = mem::replace(&mut self.running, running);
        let deadline = Instant::now() + STATE_DEADLINE;
        let path = self.state_path();
        self.running.qmp.forget("RESUME");
        self.listen_for_state(&path)?;
        send_state(&mut source.qmp, &path)?;
        wait_sent(&mut source.qmp, deadline)?;
        self.wait_arrived()?;
        self.hub.replace(status).map_err(MachineError::Host)?;
        resumed(&mut self.running.qmp, deadline)
    }

    /// Writes the stopped machine's state to a file that has no name.
    fn save(&mut self) -> Result<File, MachineError> {
        let deadline = Instant::now() + STATE_DEADLINE;
        let mut file = tempfile::tempfile().map_err(MachineError::Host)?;
        let path = self.state_path();
        let listener = birth::listen(&path)?;
        send_state(&mut self.running.qmp, &path)?;
        let pumped = accept(&listener, deadline).and_then(|mut stream| {
            stream.set_read_timeout(Some(STALL_DEADLINE))?;
            io::copy(&mut stream, &mut file)
        });
        remove(&path);
        wait_sent(&mut self.running.qmp, deadline)?;
        pumped.map_err(|source| moving("save the machine's state", source.to_string()))?;
        file.seek(SeekFrom::Start(0)).map_err(MachineError::Host)?;
        Ok(file)
    }

    /// Starts a QEMU that waits for this machine's state.
    fn bear_next(&mut self) -> Result<(Running, UnixStream), MachineError> {
        self.moves += 1;
        let begin = Begin::Incoming(self.moves);
        let (config, patience) = (self.config(), self.patience());
        birth::bear(&self.program, config, patience, &self.directory, begin)
    }

    /// Where a machine's state comes in.
    fn state_path(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn listen_for_state(&mut self, path: &Path) -> Result<(), MachineError> {
        remove(path);
        let deadline = Instant::now() + self.patience().answer();
        let uri = json!({"uri": format!("unix:{}", path.display())});
        self.running
            .qmp
            .execute("migrate-incoming", uri, deadline)?;
        Ok(())
    }

    /// Waits until the whole state has come in.
    fn wait_arrived(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + STATE_DEADLINE;
        loop {
            let state = match self.running.qmp.query_status(deadline) {
                Ok(state) => state,
                // A QEMU that can't take the state ends, and says why on its standard error.
                Err(error) => return Err(self.ended_instead_of(error)),
            };
            if state.status != "inmigrate" {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = format!("it did not come in within {} s", STATE_DEADLINE.as_secs());
                return Err(moving("restore the machine's state", why));
            }
            thread::sleep(POLL);
        }
    }
}

impl Machine {
    /// The machine's end where it has ended, else `error`.
    fn ended_instead_of(&mut self, error: QmpError) -> MachineError {
        let soon = Instant::now() + Duration::from_secs(1);
        match self.running.process.wait(soon) {
            Some(_) => self.ended(),
            None => error.into(),
        }
    }
}

/// The instant of the next RESUME, by QEMU's clock, which is the host's.
pub(super) fn resumed(qmp: &mut Qmp, deadline: Instant) -> Result<Utc, MachineError> {
    let event = qmp.wait_event("RESUME", deadline)?;
    event.timestamp.utc().ok_or_else(|| {
        moving(
            "tell when the machine resumed",
            "QEMU gave no time with its event RESUME".to_owned(),
        )
    })
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
                return Err(moving("send the machine's state", why.to_owned()));
            }
            _ if Instant::now() >= deadline => {
                let at = answer.get("status").and_then(Value::as_str);
                let why = format!(
                    "it was not done within {} s (status {})",
                    STATE_DEADLINE.as_secs(),
                    at.unwrap_or("none")
                );
                return Err(moving("send the machine's state", why));
            }
            _ => thread::sleep(POLL),
        }
    }
}

fn pump_in(state: &mut File, mut stream: UnixStream) -> Result<(), MachineError> {
    let pumped = stream
        .set_write_timeout(Some(STALL_DEADLINE))
        .and_then(|()| io::copy(state, &mut stream));
    pumped
        .map(drop)
        .map_err(|source| moving("restore the machine's state", source.to_string()))
}

fn accept(listener: &UnixListener, deadline: Instant) -> io::Result<UnixStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => thread::sleep(POLL),
        }
    }
}

fn remove(path: &Path) {
    // What is left goes with the run directory.
    let _ = std::fs::remove_file(path);
}

fn moving(deed: &'static str, why: String) -> MachineError {
    MachineError::Moving { deed, why }
}
