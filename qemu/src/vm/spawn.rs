//! Spawning QEMU: from a configuration to a process that has connected to all its sockets.

use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use noonmark_contract::units::Utc;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::json;

use crate::command::CommandPorts;
use crate::console::Console;
use crate::file_error::FileError;
use crate::port::TestPort;
use crate::process::Process;
use crate::program::Qemu;
use crate::qmp::Qmp;
use crate::registry::Description;
use crate::runtime_dir::{DESCRIPTION, RuntimeDir};
use crate::time_server::{TimeServer, host_utc};

use super::argv::{Endpoints, TIME_CHARDEV, argv, incoming};
use super::config::{Boot, Config};
use super::error::MachineError;
use super::exit::{Symptoms, TAIL_LINES};
use super::instance::Instance;
use super::timeouts::Timeouts;

/// How often a wait for QEMU looks whether it still runs.
const RUN_CHECK: Duration = Duration::from_millis(50);

/// How long QEMU may take to exit after it has closed its monitor.
const EXIT_DEADLINE: Duration = Duration::from_secs(1);

/// What a QEMU does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It boots its guest.
    Boot,
    /// It waits for the state of a machine that ran in another QEMU; so many came before it.
    Incoming(u32),
}

/// A QEMU that has connected to all its sockets.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) instance: Instance,
    pub(super) ports: Ports,
    /// The host's end of the status port.
    pub(super) status: UnixStream,
}

/// The host's ends of the other ports, which end with their QEMU.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) test: Option<TestPort>,
    pub(super) time: Option<TimeServer>,
    pub(super) command: Option<CommandPorts>,
}

/// A QEMU that has not connected everywhere yet.
struct Starting {
    process: Process,
    console: Console,
    stderr: Console,
    deadline: Instant,
}

/// The sockets that QEMU will connect to.
struct Listeners {
    qmp: UnixListener,
    status: UnixListener,
    time: Option<UnixListener>,
    test: Option<UnixListener>,
    command: Option<[UnixListener; 4]>,
}

/// Starts QEMU and waits until it has connected everywhere.
pub(super) fn spawn(
    qemu: &Qemu,
    config: &Config,
    timeouts: Timeouts,
    directory: &RuntimeDir,
    start: Start,
) -> Result<Spawned, MachineError> {
    check_files(&config.boot)?;
    let endpoints = Endpoints::in_folder(directory.path());
    if let Boot::Uefi { vars, .. } = &config.boot {
        let copied = fs::copy(vars, &endpoints.vars);
        copied.map_err(FileError::of("copy the firmware's variables from", vars))?;
    }
    let wanted = |wanted: bool, path: &Path| wanted.then(|| listen(path)).transpose();
    let listeners = Listeners {
        qmp: listen(&endpoints.qmp)?,
        status: listen(&endpoints.status)?,
        time: wanted(config.time_channel, &endpoints.time)?,
        test: wanted(config.test_port, &endpoints.test)?,
        command: config
            .command_ports
            .then(|| each(endpoints.command.each_ref(), |path| listen(path)))
            .transpose()?,
    };
    let mut arguments = argv(config, &endpoints);
    let log = match start {
        Start::Boot => directory.join("console.log"),
        Start::Incoming(before) => {
            arguments.extend(incoming());
            directory.join(&format!("console-{before}.log"))
        }
    };

    let (started, started_utc) = (Instant::now(), host_utc());
    let (process, output) = Process::spawn(qemu.path(), &arguments).map_err(MachineError::Spawn)?;
    let mut starting = Starting {
        process,
        console: Console::capture(output.stdout, Some(&log)).map_err(MachineError::Host)?,
        stderr: Console::capture(output.stderr, None).map_err(MachineError::Host)?,
        deadline: started + timeouts.start(),
    };
    let qmp = starting.monitor(&listeners.qmp)?;
    let status = starting.accept(&listeners.status)?;
    let time = starting.accept_any(listeners.time.as_ref())?;
    let test = starting.accept_any(listeners.test.as_ref())?;
    let command = match &listeners.command {
        Some(listeners) => Some(each(listeners.each_ref(), |one| starting.accept(one))?),
        None => None,
    };
    remove_sockets(&endpoints);
    describe(&starting.process, directory, &config.name, started_utc)?;
    Ok(Spawned {
        instance: Instance {
            process: starting.process,
            console: starting.console,
            stderr: starting.stderr,
            qmp,
            started,
        },
        ports: Ports {
            test: test.map(TestPort::new).transpose()?,
            time: time
                .map(TimeServer::start)
                .transpose()
                .map_err(MachineError::Host)?,
            command: command
                .map(CommandPorts::new)
                .transpose()
                .map_err(MachineError::Host)?,
        },
        status,
    })
}

/// Has a running QEMU connect its time channel once more.
pub(super) fn connect_time(
    instance: &mut Instance,
    directory: &RuntimeDir,
    deadline: Instant,
) -> Result<UnixStream, MachineError> {
    let endpoints = Endpoints::in_folder(directory.path());
    let listener = listen(&endpoints.time)?;
    let socket = json!({
        "addr": {"type": "unix", "data": {"path": endpoints.time}},
        "server": false,
    });
    let backend = json!({"id": TIME_CHARDEV, "backend": {"type": "socket", "data": socket}});
    let changed = instance.qmp.execute("chardev-change", backend, deadline);
    // QEMU connects before it answers, so nothing is left to wait for.
    let accepted = try_accept(&listener);
    remove_sockets(&endpoints);
    changed?;
    accepted
        .and_then(|stream| stream.ok_or(io::ErrorKind::WouldBlock.into()))
        .map_err(MachineError::Host)
}

impl Starting {
    fn monitor(&mut self, listener: &UnixListener) -> Result<Qmp, MachineError> {
        let stream = self.accept(listener)?;
        Qmp::connect(stream, self.deadline).map_err(|error| {
            // QEMU connects before it looks at the rest of its arguments, so a refusal shows as a
            // connection that closes.
            let _ = self.process.wait(Instant::now() + EXIT_DEADLINE);
            self.failure().unwrap_or_else(|| error.into())
        })
    }

    fn accept_any(
        &mut self,
        listener: Option<&UnixListener>,
    ) -> Result<Option<UnixStream>, MachineError> {
        listener.map(|listener| self.accept(listener)).transpose()
    }

    /// Waits for QEMU to connect; its exit ends the wait.
    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream, MachineError> {
        loop {
            if let Some(stream) = try_accept(listener).map_err(MachineError::Host)? {
                return Ok(stream);
            }
            if let Some(error) = self.failure() {
                return Err(error);
            }
            wait_readable(listener).map_err(MachineError::Host)?;
        }
    }

    /// Why QEMU will not connect any more; none while it may.
    fn failure(&mut self) -> Option<MachineError> {
        if let Some(status) = self.process.exit_status() {
            self.stderr.finish();
            self.console.finish();
            let cause = Symptoms {
                status: Some(status),
                stderr: &self.stderr.tail(TAIL_LINES).join("\n"),
                ..Symptoms::default()
            }
            .cause()?;
            return Some(MachineError::Refused(cause));
        }
        (Instant::now() >= self.deadline).then(|| MachineError::NoMonitor {
            stderr: self.stderr.tail(TAIL_LINES).join("; "),
        })
    }
}

/// The same of each of four.
fn each<T, U, E>(four: [T; 4], mut get: impl FnMut(T) -> Result<U, E>) -> Result<[U; 4], E> {
    let [a, b, c, d] = four;
    Ok([get(a)?, get(b)?, get(c)?, get(d)?])
}

fn wait_readable(listener: &UnixListener) -> io::Result<()> {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let slice = Timespec::try_from(RUN_CHECK).map_err(io::Error::other)?;
    match rustix::event::poll(&mut fds, Some(&slice)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Connected sockets need no name any more.
fn remove_sockets(endpoints: &Endpoints) {
    let Endpoints {
        qmp,
        status,
        time,
        test,
        command,
        ..
    } = endpoints;
    for path in [qmp, status, time, test].into_iter().chain(command) {
        // What is left goes with the directory.
        let _ = fs::remove_file(path);
    }
}

fn describe(
    process: &Process,
    directory: &RuntimeDir,
    name: &str,
    started_ns: Utc,
) -> Result<(), MachineError> {
    let description = Description {
        v: 1,
        name: name.to_owned(),
        pid: std::process::id(),
        qemu_pid: process.pid(),
        started_ns,
    };
    let json = serde_json::to_vec(&description).map_err(|e| MachineError::Host(e.into()))?;
    Ok(directory.write(DESCRIPTION, &json)?)
}

/// Listens on a socket in a runtime directory.
pub(super) fn listen(path: &Path) -> Result<UnixListener, FileError> {
    UnixListener::bind(path).map_err(FileError::of("listen on", path))
}

/// The connection that waits on a listener, if there is one.
pub(super) fn try_accept(listener: &UnixListener) -> io::Result<Option<UnixStream>> {
    listener.set_nonblocking(true)?;
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(false)?;
            Ok(Some(stream))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// QEMU would say it too, in words of its own and after it was started.
fn check_files(boot: &Boot) -> Result<(), FileError> {
    let files: &[&PathBuf] = match boot {
        Boot::Direct { kernel, initrd, .. } => &[kernel, initrd],
        Boot::Uefi { disk, code, vars } => &[disk, code, vars],
    };
    for path in files {
        fs::File::open(path).map_err(FileError::of("open", path))?;
    }
    Ok(())
}
