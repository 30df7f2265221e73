//! A running machine: started with its ports connected, watched, and gone when dropped.

use std::path::Path;
use std::time::{Duration, Instant};

use noonmark_sync::record::{Command, Record, Shutdown, State, Status};
use noonmark_sync::testport::{Answer, Request};

use super::birth;
use super::config::{Config, Patience};
use super::console::{Console, Follower};
use super::death::{Cause, Death, Evidence, KERNEL_PANIC, TAIL_LINES};
use super::error::MachineError;
use super::process::Process;
use super::rundir::RunDir;
use crate::hub::{Feed, FeedError, Hub};
use crate::lines::ReadError;
use crate::port::{PortError, TestPort};
use crate::program::Qemu;
use crate::qmp::Qmp;
use crate::time_server::{TimeServer, host_utc};

/// How often a wait looks whether the machine is still well.
const HEALTH_CHECK: Duration = Duration::from_millis(200);

/// A QEMU with everything that belongs to it. Dropping it kills QEMU and removes its files.
#[derive(Debug)]
pub struct Machine {
    // Fields are dropped in this order: QEMU first, which ends what reads from it.
    process: Process,
    console: Console,
    stderr: Console,
    qmp: Qmp,
    hub: Hub,
    test: Option<TestPort>,
    _time: Option<TimeServer>,
    config: Config,
    patience: Patience,
    started: Instant,
    directory: RunDir,
}

/// How a machine was brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOff {
    /// Its own PID 1 turned it off.
    Guest,
    /// It did not in time, so QEMU was told to quit.
    Quit,
    /// QEMU did not quit either and was killed.
    Killed,
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
        let (newborn, ports) = birth::bear(qemu, &config, patience)?;
        let hub = Hub::start(ports.status, ports.subscribers).map_err(MachineError::Host)?;
        let time = ports
            .time
            .map(|stream| TimeServer::start(stream, host_utc))
            .transpose()
            .map_err(MachineError::Host)?;
        Ok(Self {
            process: newborn.process,
            console: newborn.console,
            stderr: newborn.stderr,
            qmp: ports.qmp,
            hub,
            test: ports.test.map(TestPort::new).transpose()?,
            _time: time,
            config,
            patience,
            started: newborn.started,
            directory: newborn.directory,
        })
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
        self.started
    }

    /// Its run directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// QEMU's process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its monitor.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// QEMU's version, as its monitor says it.
    #[must_use]
    pub fn qemu_version(&self) -> &str {
        self.qmp.version()
    }

    /// The console's last lines, at most `count`.
    #[must_use]
    pub fn console_tail(&self, count: usize) -> Vec<String> {
        self.console.tail(count)
    }

    /// Hands `follower` the console's output, what there was so far first.
    pub fn follow_console(&self, follower: Follower) {
        self.console.follow(follower);
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
        Ok(self.qmp.stop(deadline)?)
    }

    /// Lets the machine's processors run on.
    ///
    /// The kick is written first: it waits in the port while the machine stands still, and is there
    /// when its first processor runs. Sent after QEMU's event RESUME it would come later by a round
    /// trip of the monitor.
    ///
    /// # Errors
    /// Where QEMU refuses, or does not answer in time.
    pub fn resume(&mut self, kick: Kick) -> Result<(), MachineError> {
        if kick == Kick::Sent {
            self.send(&Command::Kick(true))?;
        }
        let deadline = Instant::now() + self.patience.answer();
        Ok(self.qmp.cont(deadline)?)
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
        let mut deadline = self.started + self.patience.boot();
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

    /// Brings the machine to its end: asks PID 1, then QEMU, then kills.
    ///
    /// # Errors
    /// Where the guest died of something else than the power-off.
    pub fn power_off(mut self) -> Result<PowerOff, MachineError> {
        self.send(&Command::Shutdown(Shutdown::Poweroff))?;
        let patience = self.patience.shutdown();
        if self.process.wait(Instant::now() + patience).is_some() {
            return match self.ended() {
                MachineError::Died(death) if death.cause == Cause::PoweredOff => {
                    Ok(PowerOff::Guest)
                }
                error => Err(error),
            };
        }
        // A monitor that no longer answers is what the kill is for.
        let _ = self.qmp.quit(Instant::now() + patience);
        Ok(match self.process.wait(Instant::now() + patience) {
            Some(_) => PowerOff::Quit,
            None => PowerOff::Killed,
        })
    }

    fn test_port(&mut self) -> Result<&mut TestPort, MachineError> {
        self.test.as_mut().ok_or(MachineError::NoTestPort)
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
            after: self.started.elapsed(),
            accelerator: self.config.accelerator,
            console: self.console.tail(TAIL_LINES),
        })
    }

    /// The error for a machine whose ports are closed.
    fn ended(&mut self) -> MachineError {
        // The ports close a moment before the process is reaped.
        let _ = self.process.wait(Instant::now() + Duration::from_secs(5));
        let death = self.death().unwrap_or_else(|| Death {
            cause: Cause::Ended,
            console: self.console.tail(TAIL_LINES),
        });
        MachineError::Died(Box::new(death))
    }

    /// Why the machine is not well; none where it seems to be.
    fn death(&mut self) -> Option<Death> {
        let exit = self.process.exit();
        let mut shutdown = None;
        if exit.is_some() {
            self.console.finish();
            self.stderr.finish();
            let event = self
                .qmp
                .wait_event("SHUTDOWN", Instant::now() + HEALTH_CHECK);
            shutdown = event
                .ok()
                .and_then(|event| event.data["reason"].as_str().map(str::to_owned));
        }
        let cause = Evidence {
            exit,
            shutdown: shutdown.as_deref(),
            stderr: &self.stderr.tail(TAIL_LINES).join("\n"),
            panicked: self.console.contains(KERNEL_PANIC),
        }
        .cause()?;
        Some(Death {
            cause,
            console: self.console.tail(TAIL_LINES),
        })
    }
}
