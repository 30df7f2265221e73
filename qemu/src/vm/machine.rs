//! A running machine: started with its ports connected, watched, and gone when dropped.

use std::path::Path;
use std::time::{Duration, Instant};

use noonmark_contract::record::{Command, Record, State, Status};
use noonmark_contract::testport::{Answer, Query, Request};
use noonmark_contract::units::Utc;

use crate::hub::{Feed, FeedError, Hub};
use crate::lines::ReadError;
use crate::manner::Manner;
use crate::port::{PortError, TestPort};
use crate::program::Qemu;
use crate::qmp::Qmp;
use crate::registry::STATUS_SOCKET;
use crate::time_server::TimeServer;

use super::birth::{self, Begin, Running};
use super::config::{Config, Patience};
use super::console::Follower;
use super::death::{Cause, Death, Evidence, KERNEL_PANIC, TAIL_LINES};
use super::error::MachineError;
use super::moving;
use super::rundir::RunDir;

/// How often a wait looks whether the machine is still well.
const HEALTH_CHECK: Duration = Duration::from_millis(200);

/// A QEMU with everything that belongs to it. Dropping it kills QEMU and removes its files.
#[derive(Debug)]
pub struct Machine {
    // Fields are dropped in this order: QEMU first, which ends what reads from it.
    pub(super) running: Running,
    pub(super) hub: Hub,
    pub(super) program: Qemu,
    config: Config,
    patience: Patience,
    /// How many QEMUs it has run in.
    pub(super) moves: u32,
    pub(super) directory: RunDir,
}

/// Whether PID 1 is told that the machine has been resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// `{"kick":true}` on the status port: it looks at its clock at once.
    Sent,
    /// It has to find out by itself.
    Withheld,
}

impl Machine {
    /// Starts a machine and returns once its monitor has answered; the guest then boots.
    ///
    /// # Errors
    /// Where a file is missing, QEMU refuses to start, or it does not connect in time.
    pub fn start(qemu: &Qemu, config: Config) -> Result<Self, MachineError> {
        let patience = Patience::new(config.accelerator);
        let directory = RunDir::create()?;
        let subscribers = birth::listen(&directory.join(STATUS_SOCKET))?;
        let (running, status) = birth::bear(qemu, &config, patience, &directory, Begin::Boot)?;
        let hub = Hub::start(status, subscribers).map_err(MachineError::Host)?;
        Ok(Self {
            running,
            hub,
            program: qemu.clone(),
            config,
            patience,
            moves: 0,
            directory,
        })
    }

    /// Ends this machine and starts another in its place, with the same QEMU.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn start_over(&mut self, config: Config) -> Result<(), MachineError> {
        // Two machines at once would starve each other.
        self.running.process.kill();
        *self = Self::start(&self.program.clone(), config)?;
        Ok(())
    }

    /// What it is made of.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How long to wait for what.
    #[must_use]
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// When QEMU was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.running.started
    }

    /// Its run directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// QEMU's process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.process.pid()
    }

    /// Its monitor.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.running.qmp
    }

    /// QEMU's version, as its monitor says it.
    #[must_use]
    pub fn qemu_version(&self) -> &str {
        self.running.qmp.version()
    }

    /// The console's last lines, at most `count`.
    #[must_use]
    pub fn console_tail(&self, count: usize) -> Vec<String> {
        self.running.console.tail(count)
    }

    /// Hands `follower` the console's output, what there was so far first.
    pub fn follow_console(&self, follower: Follower) {
        self.running.console.follow(follower);
    }

    /// A subscription of the status port, from the next record on.
    #[must_use]
    pub fn feed(&self) -> Feed {
        self.hub.feed()
    }

    /// Sends a command to PID 1.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn send(&self, command: &Command) -> Result<(), MachineError> {
        self.hub.send(command).map_err(MachineError::Host)
    }

    /// Stops the machine's processors; its clocks stand still with them.
    ///
    /// # Errors
    /// Where QEMU refuses, or does not answer in time.
    pub fn pause(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + self.patience.answer();
        Ok(self.running.qmp.stop(deadline)?)
    }

    /// Lets the machine's processors run on. Gives the instant at which QEMU says that it did that,
    /// just before the first of them runs.
    ///
    /// The kick is written first: it waits in the port while the machine stands still, and is there
    /// when its first processor runs. Sent after QEMU's event RESUME it would come later by a round
    /// trip of the monitor.
    ///
    /// # Errors
    /// Where QEMU refuses, or does not answer in time.
    pub fn resume(&mut self, kick: Kick) -> Result<Utc, MachineError> {
        if kick == Kick::Sent {
            self.send(&Command::Kick(true))?;
        }
        let deadline = Instant::now() + self.patience.answer();
        self.running.qmp.forget("RESUME");
        self.running.qmp.cont(deadline)?;
        moving::resumed(&mut self.running.qmp, deadline)
    }

    /// The next record of `feed`.
    ///
    /// # Errors
    /// [`MachineError::Deadline`], and [`MachineError::Died`] as soon as the machine is not well.
    pub fn record(
        &mut self,
        feed: &Feed,
        awaited: &'static str,
        deadline: Instant,
    ) -> Result<Record, MachineError> {
        loop {
            match feed.next(deadline.min(Instant::now() + HEALTH_CHECK)) {
                Ok(record) => return Ok(record),
                Err(FeedError::Closed) => return Err(self.ended()),
                Err(FeedError::Timeout) => self.check(awaited, deadline)?,
            }
        }
    }

    /// Waits for the first status record whose clock is synced, passing each record to `each`.
    ///
    /// # Errors
    /// As [`Machine::record`]; the deadlines are those of [`Patience`].
    pub fn wait_synced(
        &mut self,
        feed: &Feed,
        mut each: impl FnMut(&Record),
    ) -> Result<Status, MachineError> {
        let mut awaited = "the first record on the status port";
        let mut deadline = self.running.started + self.patience.boot();
        let mut seen = false;
        loop {
            let record = self.record(feed, awaited, deadline)?;
            if !seen {
                seen = true;
                awaited = "the first sync of the guest's clock";
                deadline = Instant::now() + self.patience.sync();
            }
            each(&record);
            match record {
                Record::Status(status) if status.state == State::Synced => return Ok(status),
                Record::Status(_) | Record::Event(_) => {}
            }
        }
    }

    /// Sends a request to the fault program.
    ///
    /// # Errors
    /// Where the machine has no test port, or it does not take the request.
    pub fn send_test(&mut self, request: &Request) -> Result<(), MachineError> {
        Ok(self.test_port()?.send(request)?)
    }

    /// Sends a question to the fault program.
    ///
    /// # Errors
    /// As [`Machine::send_test`].
    pub fn send_query(&mut self, query: &Query) -> Result<(), MachineError> {
        Ok(self.test_port()?.ask(query)?)
    }

    /// Closes the time channel, as a host does that stops serving it.
    pub fn close_time_channel(&mut self) {
        self.running.time = None;
    }

    /// Connects the time channel again after [`Machine::close_time_channel`].
    ///
    /// # Errors
    /// Where QEMU does not connect.
    pub fn open_time_channel(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + self.patience.answer();
        let stream = birth::connect_time(&mut self.running, &self.directory, deadline)?;
        self.running.time = Some(TimeServer::start(stream).map_err(MachineError::Host)?);
        Ok(())
    }

    /// Makes the host answer on the time channel in this manner.
    pub fn set_time_manner(&mut self, manner: Manner) {
        if let Some(time) = &self.running.time {
            time.set_manner(manner);
        }
    }

    /// The fault program's next answer.
    ///
    /// # Errors
    /// As [`Machine::record`], and where the machine has no test port.
    pub fn test_answer(
        &mut self,
        awaited: &'static str,
        deadline: Instant,
    ) -> Result<Answer, MachineError> {
        loop {
            let slice = deadline.min(Instant::now() + HEALTH_CHECK);
            match self.test_port()?.next(slice) {
                Ok(answer) => return Ok(answer),
                Err(PortError::Read(ReadError::Timeout)) => self.check(awaited, deadline)?,
                Err(PortError::Read(ReadError::Closed)) => return Err(self.ended()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn test_port(&mut self) -> Result<&mut TestPort, MachineError> {
        self.running.test.as_mut().ok_or(MachineError::NoTestPort)
    }

    /// Fails where the machine is not well, or the deadline for `awaited` has passed.
    fn check(&mut self, awaited: &'static str, deadline: Instant) -> Result<(), MachineError> {
        if let Some(death) = self.death() {
            return Err(MachineError::Died(Box::new(death)));
        }
        if Instant::now() < deadline {
            return Ok(());
        }
        Err(MachineError::Deadline {
            awaited,
            after: self.running.started.elapsed(),
            accelerator: self.config.accelerator,
            console: self.running.console.tail(TAIL_LINES),
        })
    }

    /// The error for a machine whose ports are closed.
    pub(super) fn ended(&mut self) -> MachineError {
        // The ports close a moment before the process is reaped.
        let _ = self
            .running
            .process
            .wait(Instant::now() + Duration::from_secs(5));
        let death = self.death().unwrap_or_else(|| Death {
            cause: Cause::Ended,
            console: self.running.console.tail(TAIL_LINES),
        });
        MachineError::Died(Box::new(death))
    }

    /// Why the machine is not well; none where it seems to be.
    fn death(&mut self) -> Option<Death> {
        let exit = self.running.process.exit();
        let mut shutdown = None;
        if exit.is_some() {
            self.running.console.finish();
            self.running.stderr.finish();
            let event = self
                .running
                .qmp
                .wait_event("SHUTDOWN", Instant::now() + HEALTH_CHECK);
            shutdown = event
                .ok()
                .and_then(|event| event.data["reason"].as_str().map(str::to_owned));
        }
        let cause = Evidence {
            exit,
            shutdown: shutdown.as_deref(),
            stderr: &self.running.stderr.tail(TAIL_LINES).join("\n"),
            panicked: self.running.console.contains(KERNEL_PANIC),
        }
        .cause()?;
        Some(Death {
            cause,
            console: self.running.console.tail(TAIL_LINES),
        })
    }
}
