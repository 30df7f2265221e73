//! Commands in the guest of a machine: started, waited for, one at a time.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::run::{End, Program};

use crate::command::{CommandPorts, Ended, RunningCommand, Streams};
use crate::guest_json::from_guest;
use crate::lines::ReadError;

use super::error::MachineError;
use super::machine::{HEALTH_CHECK, Machine};

/// How often it is looked whether the input of the command before has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How often it is looked whether a command's output is written.
const DRAIN_LOOK: Duration = Duration::from_millis(1);

/// A command that has ended, with all that it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its error output.
    pub stderr: Vec<u8>,
}

impl Machine {
    /// Has the guest run a command, as soon as its clock is right.
    ///
    /// # Errors
    /// [`MachineError::NoCommandPorts`] where it can't; and where the input of the command before doesn't
    /// end.
    pub fn start_command(
        &mut self,
        program: &Program,
        streams: Streams,
    ) -> Result<RunningCommand, MachineError> {
        let deadline = Instant::now() + self.timeouts().answer();
        while !self.command_ports()?.is_free() {
            self.check("the end of the last command's input", deadline)?;
            thread::sleep(LOOK);
        }
        Ok(self.command_ports()?.start(program, streams)?)
    }

    /// Waits until it has ended and all its output is written; the command is taken out of `running`
    /// then. Without a deadline it is waited for as long as the machine runs.
    ///
    /// # Errors
    /// [`MachineError::Deadline`], and [`MachineError::Exited`] as soon as the machine is not well.
    pub fn wait_command(
        &mut self,
        running: &mut Option<RunningCommand>,
        deadline: Option<Instant>,
    ) -> Result<Ended, MachineError> {
        let awaited = "the command's end";
        let slice = || {
            let slice = Instant::now() + HEALTH_CHECK;
            deadline.map_or(slice, |deadline| deadline.min(slice))
        };
        let later = || deadline.unwrap_or(Instant::now() + HEALTH_CHECK);
        let ended = loop {
            match self.command_ports()?.reports.next(slice()) {
                Ok(line) => {
                    // What is no report is the guest's own affair.
                    if let Some(ended) = from_guest(&line).ok().and_then(Ended::of) {
                        break ended;
                    }
                }
                Err(ReadError::Timeout) => self.check(awaited, later())?,
                Err(ReadError::Closed) => return Err(self.instance.exit_error()),
                Err(ReadError::Io(error)) => return Err(MachineError::Host(error)),
            }
        };
        if let Some(running) = running {
            running.tell_end(ended.bytes());
            while !running.is_drained() {
                self.check(awaited, later())?;
                thread::sleep(DRAIN_LOOK);
            }
        }
        if let Some(running) = running.take() {
            self.command_ports()?.after(running);
        }
        Ok(ended)
    }

    /// Runs a command with this input, and waits for its end until `deadline`.
    ///
    /// # Errors
    /// As [`Machine::start_command`] and [`Machine::wait_command`], and where the guest can't run it.
    pub fn run_command(
        &mut self,
        program: &Program,
        input: Vec<u8>,
        deadline: Instant,
    ) -> Result<Output, MachineError> {
        let [stdout, stderr] = [Shared::default(), Shared::default()];
        let streams = Streams {
            stdin: Box::new(io::Cursor::new(input)) as Box<dyn Read + Send>,
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
        };
        let mut running = Some(self.start_command(program, streams)?);
        match self.wait_command(&mut running, Some(deadline))? {
            Ended::Ran { end, .. } => Ok(Output {
                end,
                stdout: stdout.take(),
                stderr: stderr.take(),
            }),
            Ended::NotRun { why, .. } => Err(MachineError::Command(why)),
        }
    }

    fn command_ports(&mut self) -> Result<&mut CommandPorts, MachineError> {
        let ports = self.ports.command.as_mut();
        ports.ok_or(MachineError::NoCommandPorts)
    }
}

/// What a thread has written.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
