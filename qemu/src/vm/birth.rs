//! From a configuration to a QEMU that has connected to all its sockets.

use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use noonmark_contract::units::Utc;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::json;

use crate::port::TestPort;
use crate::program::Qemu;
use crate::qmp::Qmp;
use crate::registry::Description;
use crate::time_server::{TimeServer, host_utc};

use super::argv::{Endpoints, TIME_CHARDEV, argv, incoming};
use super::config::{Boot, Config, Patience};
use super::console::Console;
use super::death::{Evidence, TAIL_LINES};
use super::error::MachineError;
use super::process::Process;
use super::rundir::{DESCRIPTION, RunDir};

/// How often a wait for QEMU looks whether it still runs.
const LIFE_CHECK: Duration = Duration::from_millis(50);

/// How long QEMU may take to end after it has closed its monitor.
const END_DEADLINE: Duration = Duration::from_secs(1);

/// How a QEMU begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// It boots its guest.
    Boot,
    /// It waits for the state of a machine that ran in another QEMU; so many came before it.
    Incoming(u32),
}

/// A QEMU with everything that ends with it. Its process comes first, so that it is dropped first,
/// which ends what reads from it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) console: Console,
    pub(super) stderr: Console,
    pub(super) qmp: Qmp,
    pub(super) test: Option<TestPort>,
    pub(super) time: Option<TimeServer>,
    pub(super) started: Instant,
}

/// A QEMU that has just been started.
struct Newborn {
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
}

/// Starts QEMU and waits until it has connected everywhere. Gives it and its end of the status
/// port.
pub(super) fn bear(
    qemu: &Qemu,
    config: &Config,
    patience: Patience,
    directory: &RunDir,
    begin: Begin,
) -> Result<(Running, UnixStream), MachineError> {
    check_files(&config.boot)?;
    let paths = Paths::in_dir(directory);
    if let Boot::Uefi { vars, .. } = &config.boot {
        copy(vars, &paths.vars)?;
    }
    let wanted = |wanted: bool, path: &Path| wanted.then(|| listen(path)).transpose();
    let listeners = Listeners {
        qmp: listen(&paths.qmp)?,
        status: listen(&paths.status)?,
        time: wanted(config.time_channel, &paths.time)?,
        test: wanted(config.test_port, &paths.test)?,
    };
    let mut arguments = argv(config, &paths.endpoints());
    let log = match begin {
        Begin::Boot => directory.join("console.log"),
        Begin::Incoming(before) => {
            arguments.extend(incoming());
            directory.join(&format!("console-{before}.log"))
        }
    };

    let (started, started_utc) = (Instant::now(), host_utc());
    let (process, output) = Process::spawn(qemu.path(), &arguments).map_err(MachineError::Spawn)?;
    let mut newborn = Newborn {
        process,
        console: Console::capture(output.stdout, Some(&log)).map_err(MachineError::Host)?,
        stderr: Console::capture(output.stderr, None).map_err(MachineError::Host)?,
        deadline: started + patience.start(),
    };
    let qmp = newborn.monitor(&listeners.qmp)?;
    let status = newborn.accept(&listeners.status)?;
    let time = newborn.accept_any(listeners.time.as_ref())?;
    let test = newborn.accept_any(listeners.test.as_ref())?;
    paths.remove_sockets();
    describe(&newborn, directory, &config.name, started_utc)?;
    let running = Running {
        process: newborn.process,
        console: newborn.console,
        stderr: newborn.stderr,
        qmp,
        test: test.map(TestPort::new).transpose()?,
        time: time
            .map(TimeServer::start)
            .transpose()
            .map_err(MachineError::Host)?,
        started,
    };
    Ok((running, status))
}

/// Has a running QEMU connect its time channel once more.
pub(super) fn connect_time(
    running: &mut Running,
    directory: &RunDir,
    deadline: Instant,
) -> Result<UnixStream, MachineError> {
    let paths = Paths::in_dir(directory);
    let listener = listen(&paths.time)?;
    let socket = json!({
        "addr": {"type": "unix", "data": {"path": paths.time}},
        "server": false,
    });
    let backend = json!({"id": TIME_CHARDEV, "backend": {"type": "socket", "data": socket}});
    let changed = running.qmp.execute("chardev-change", backend, deadline);
    // QEMU connects before it answers, so nothing is left to wait for.
    let accepted = listener
        .set_nonblocking(true)
        .and_then(|()| listener.accept());
    paths.remove_sockets();
    changed?;
    let (stream, _) = accepted.map_err(MachineError::Host)?;
    stream.set_nonblocking(false).map_err(MachineError::Host)?;
    Ok(stream)
}

impl Newborn {
    fn monitor(&mut self, listener: &UnixListener) -> Result<Qmp, MachineError> {
        let stream = self.accept(listener)?;
        Qmp::connect(stream, self.deadline).map_err(|error| {
            // QEMU connects before it looks at the rest of its arguments, so a refusal shows as a
            // connection that closes.
            let _ = self.process.wait(Instant::now() + END_DEADLINE);
            self.stillborn().unwrap_or_else(|| error.into())
        })
    }

    fn accept_any(
        &mut self,
        listener: Option<&UnixListener>,
    ) -> Result<Option<UnixStream>, MachineError> {
        listener.map(|listener| self.accept(listener)).transpose()
    }

    /// Waits for QEMU to connect; an end of QEMU ends the wait.
    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream, MachineError> {
        listener.set_nonblocking(true).map_err(MachineError::Host)?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(MachineError::Host)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(MachineError::Host(error)),
            }
            if let Some(error) = self.stillborn() {
                return Err(error);
            }
            wait_readable(listener).map_err(MachineError::Host)?;
        }
    }

    fn stillborn(&mut self) -> Option<MachineError> {
        if let Some(exit) = self.process.exit() {
            self.stderr.finish();
            self.console.finish();
            let cause = Evidence {
                exit: Some(exit),
                stderr: &self.stderr.tail(TAIL_LINES).join("\n"),
                ..Evidence::default()
            }
            .cause()?;
            return Some(MachineError::Refused(cause));
        }
        (Instant::now() >= self.deadline).then(|| MachineError::NoMonitor {
            stderr: self.stderr.tail(TAIL_LINES).join("; "),
        })
    }
}

fn wait_readable(listener: &UnixListener) -> io::Result<()> {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let slice = Timespec::try_from(LIFE_CHECK).map_err(io::Error::other)?;
    match rustix::event::poll(&mut fds, Some(&slice)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Paths in a run directory; no name is longer than [`super::rundir::SOCKET_NAME_MAX`].
struct Paths {
    qmp: PathBuf,
    status: PathBuf,
    time: PathBuf,
    test: PathBuf,
    vars: PathBuf,
}

impl Paths {
    fn in_dir(directory: &RunDir) -> Self {
        Self {
            qmp: directory.join("qemu-qmp"),
            status: directory.join("qemu-status"),
            time: directory.join("qemu-time"),
            test: directory.join("qemu-test"),
            vars: directory.join("vars.fd"),
        }
    }

    fn endpoints(&self) -> Endpoints<'_> {
        Endpoints {
            qmp: &self.qmp,
            status: &self.status,
            time: &self.time,
            test: &self.test,
            vars: &self.vars,
        }
    }

    /// Connected sockets need no name any more.
    fn remove_sockets(&self) {
        for path in [&self.qmp, &self.status, &self.time, &self.test] {
            // What is left goes with the directory.
            let _ = fs::remove_file(path);
        }
    }
}

fn describe(
    newborn: &Newborn,
    directory: &RunDir,
    name: &str,
    started_ns: Utc,
) -> Result<(), MachineError> {
    let description = Description {
        v: 1,
        name: name.to_owned(),
        pid: std::process::id(),
        qemu_pid: newborn.process.pid(),
        started_ns,
    };
    let json = serde_json::to_vec(&description).map_err(|e| MachineError::Host(e.into()))?;
    Ok(directory.write(DESCRIPTION, &json)?)
}

/// Listens on a socket in a run directory.
pub(super) fn listen(path: &Path) -> Result<UnixListener, MachineError> {
    UnixListener::bind(path).map_err(|source| MachineError::File {
        deed: "listen on",
        path: path.to_owned(),
        source,
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), MachineError> {
    fs::copy(from, to)
        .map(drop)
        .map_err(|source| MachineError::File {
            deed: "copy the firmware's variables from",
            path: from.to_owned(),
            source,
        })
}

/// QEMU would say it too, in words of its own and after it was started.
fn check_files(boot: &Boot) -> Result<(), MachineError> {
    let files: &[&PathBuf] = match boot {
        Boot::Direct { kernel, initrd, .. } => &[kernel, initrd],
        Boot::Uefi { disk, code, vars } => &[disk, code, vars],
    };
    for path in files {
        fs::File::open(path).map_err(|source| MachineError::File {
            deed: "open",
            path: (*path).clone(),
            source,
        })?;
    }
    Ok(())
}
