//! A running machine: started with its ports connected, watched, and gone when dropped.

use std::path::Path;
use std::time::{Duration, Instant};

use noonmark_contract::host_clock::HostClock;
use noonmark_contract::record::{Command, Record, State, Status};
use noonmark_contract::testport::{Answer, Query, Request};
use noonmark_contract::units::Utc;

use crate::console::Sink;
use crate::hub::{Hub, Subscription, SubscriptionError};
use crate::lines::ReadError;
use crate::port::{PortError, TestPort};
use crate::program::Qemu;
use crate::qmp::Qmp;
use crate::registry::STATUS_SOCKET;
use crate::runtime_dir::RuntimeDir;
use crate::time_server::{Behaviour, TimeServer};

use super::config::Config;
use super::error::MachineError;
use super::exit::TAIL_LINES;
use super::instance::Instance;
use super::spawn::{self, Ports, Spawned, Start};
use super::timeouts::Timeouts;

/// How often a wait looks whether the machine is still well.
pub(super) const HEALTH_CHECK: Duration = Duration::from_millis(200);

/// A QEMU with everything that belongs to it. Dropping it kills QEMU and removes its files.
#[derive(Debug)]
pub struct Machine {
    // Fields are dropped in this order: QEMU first, which ends what reads from it.
    pub(super) instance: Instance,
    pub(super) ports: Ports,
    pub(super) hub: Hub,
    pub(super) program: Qemu,
    config: Config,
    timeouts: Timeouts,
    /// How often it was migrated to another QEMU.
    pub(super) migrations: u32,
    pub(super) directory: RuntimeDir,
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
        let timeouts = Timeouts::new(config.accelerator);
        let directory = RuntimeDir::create()?;
        let subscribers = spawn::listen(&directory.join(STATUS_SOCKET))?;
        let Spawned {
            instance,
            ports,
            status,
        } = spawn::spawn(qemu, &config, timeouts, &directory, Start::Boot)?;
        let hub = Hub::start(status, subscribers).map_err(MachineError::Host)?;
        Ok(Self {
            instance,
            ports,
            hub,
            program: qemu.clone(),
            config,
            timeouts,
            migrations: 0,
            directory,
        })
    }

    /// Ends this machine and starts another in its place, with the same QEMU.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn restart_with(&mut self, config: Config) -> Result<(), MachineError> {
        // Two machines at once would starve each other.
        self.instance.process.kill();
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
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// When QEMU was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.instance.started
    }

    /// Its runtime directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// QEMU's process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.instance.process.pid()
    }

    /// Its monitor.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.instance.qmp
    }

    /// QEMU's version, as its monitor says it.
    #[must_use]
    pub fn qemu_version(&self) -> &str {
        self.instance.qmp.version()
    }

    /// The console's last lines, at most `count`.
    #[must_use]
    pub fn console_tail(&self, count: usize) -> Vec<String> {
        self.instance.console.tail(count)
    }

    /// Hands `sink` the console's output, what there was so far first.
    pub fn follow_console(&self, sink: Sink) {
        self.instance.console.follow(sink);
    }

    /// A subscription of the status port, from the next record on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.hub.subscribe()
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
        let deadline = Instant::now() + self.timeouts.answer();
        Ok(self.instance.qmp.stop(deadline)?)
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
        let deadline = Instant::now() + self.timeouts.answer();
        self.instance.qmp.forget("RESUME");
        self.instance.qmp.cont(deadline)?;
        self.instance.wait_resumed(deadline)
    }

    /// The next record of `subscription`.
    ///
    /// # Errors
    /// [`MachineError::Deadline`], and [`MachineError::Exited`] as soon as the machine is not well.
    pub fn record(
        &mut self,
        subscription: &Subscription,
        awaited: &'static str,
        deadline: Instant,
    ) -> Result<Record, MachineError> {
        loop {
            match subscription.next(deadline.min(Instant::now() + HEALTH_CHECK)) {
                Ok(record) => return Ok(record),
                Err(SubscriptionError::Closed) => return Err(self.instance.exit_error()),
                Err(SubscriptionError::Timeout) => self.check(awaited, deadline)?,
            }
        }
    }

    /// Waits for the first status record whose clock is synced, passing each record to `each`.
    ///
    /// # Errors
    /// As [`Machine::record`]; the deadlines are those of [`Timeouts`].
    pub fn wait_synced(
        &mut self,
        subscription: &Subscription,
        mut each: impl FnMut(&Record),
    ) -> Result<Status, MachineError> {
        let mut awaited = "the first record on the status port";
        let mut deadline = self.instance.started + self.timeouts.boot();
        let mut seen = false;
        loop {
            let record = self.record(subscription, awaited, deadline)?;
            if !seen {
                seen = true;
                awaited = "the first sync of the guest's clock";
                deadline = Instant::now() + self.timeouts.sync();
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
        self.ports.time = None;
    }

    /// Connects the time channel again after [`Machine::close_time_channel`].
    ///
    /// # Errors
    /// Where QEMU does not connect.
    pub fn open_time_channel(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + self.timeouts.answer();
        let stream = spawn::connect_time(&mut self.instance, &self.directory, deadline)?;
        self.ports.time = Some(TimeServer::start(stream).map_err(MachineError::Host)?);
        Ok(())
    }

    /// Makes the host answer on the time channel in this way from the next request on.
    pub fn set_time_server_behaviour(&mut self, behaviour: Behaviour) {
        if let Some(time) = &self.ports.time {
            time.set_behaviour(behaviour);
        }
    }

    /// Makes the host say this of its clock on the time channel, whatever its kernel says.
    pub fn set_host_clock(&mut self, told: HostClock) {
        if let Some(time) = &self.ports.time {
            time.set_host_clock(told);
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
                Err(PortError::Read(ReadError::Closed)) => return Err(self.instance.exit_error()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn test_port(&mut self) -> Result<&mut TestPort, MachineError> {
        self.ports.test.as_mut().ok_or(MachineError::NoTestPort)
    }

    /// Fails where the machine is not well, or the deadline for `awaited` has passed.
    ///
    /// # Errors
    /// [`MachineError::Exited`], [`MachineError::Deadline`].
    pub fn check(&mut self, awaited: &'static str, deadline: Instant) -> Result<(), MachineError> {
        if let Some(exit) = self.instance.exit() {
            return Err(MachineError::Exited(Box::new(exit)));
        }
        if Instant::now() < deadline {
            return Ok(());
        }
        Err(MachineError::Deadline {
            awaited,
            after: self.instance.started.elapsed(),
            accelerator: self.config.accelerator,
            console: self.instance.console.tail(TAIL_LINES),
        })
    }
}
