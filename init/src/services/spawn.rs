//! Starts a service's first process without waiting for it: whether the program could be executed
//! is known when the process has ended.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use noonmark_contract::config::{RUNTIME, SEARCH_PATH, STATE, Service};
use noonmark_linux::sys::child::{self, SpawnConfig, SpawnFailure, Stage};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::cgroup::Group;
use super::{capabilities, devices, filter, notify};

/// Starts processes, and learns what became of their start.
#[derive(Debug)]
pub struct Spawner {
    null: File,
    /// What children write when they can't become the program; closed by success.
    failure_pipe_read: OwnedFd,
    failure_pipe_write: OwnedFd,
    failures: Vec<SpawnFailure>,
}

impl Spawner {
    /// `/dev` must be mounted.
    ///
    /// # Errors
    /// There is no `/dev/null`, or no pipe.
    pub fn new() -> Result<Self, Errno> {
        let null = File::open("/dev/null")
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let (failure_pipe_read, failure_pipe_write) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self {
            null,
            failure_pipe_read,
            failure_pipe_write,
            failures: Vec::new(),
        })
    }

    /// Starts the service's program; without an input, it reads nothing. An error is a text for the service's report.
    pub fn spawn(
        &self,
        service: &Service,
        group: Option<&Group>,
        input: Option<BorrowedFd<'_>>,
        output: BorrowedFd<'_>,
    ) -> Result<Pid, String> {
        let text = |text: &str| CString::new(text).map_err(|_| format!("a NUL byte in {text:?}"));
        let exec: Result<Vec<CString>, String> = service.exec.iter().map(|w| text(w)).collect();
        let exec = exec?;
        let mut environment = Vec::with_capacity(service.env.len() + 1);
        if !service.env.contains_key("PATH") {
            environment.push(text(&format!("PATH={SEARCH_PATH}"))?);
        }
        for (name, value) in &service.env {
            environment.push(text(&format!("{name}={value}"))?);
        }
        let mut directories = Vec::new();
        for (variable, parent, name) in [
            ("RUNTIME_DIRECTORY", RUNTIME, &service.runtime_directory),
            ("STATE_DIRECTORY", STATE, &service.state_directory),
        ] {
            let Some(name) = name else { continue };
            let path = format!("{parent}/{name}");
            environment.push(text(&format!("{variable}={path}"))?);
            directories.push(text(&path)?);
        }
        if service.notifies() {
            environment.push(text(&format!("NOTIFY_SOCKET={}", notify::path(service)))?);
        }
        if let Some(watchdog_s) = service.watchdog_s {
            environment.push(text(&format!("WATCHDOG_USEC={watchdog_s}000000"))?);
        }
        let filters = filter::compile(service)?;
        child::spawn(&SpawnConfig {
            exec: &exec,
            environment: &environment,
            pid_variable: service.watchdog_s.map(|_| c"WATCHDOG_PID="),
            cwd: &text(&service.cwd)?,
            input: input.unwrap_or_else(|| self.null.as_fd()),
            output,
            errors: output,
            cgroup: group.map(Group::descriptor),
            devices: devices::of(service),
            directories: &directories,
            filters: &filters,
            no_new_privileges: service.no_new_privileges,
            user: service.user_id(),
            group: service.group_id(),
            capabilities_kept: capabilities::kept(service),
            failure_pipe: self.failure_pipe_write.as_fd(),
        })
        .map_err(|errno| format!("no process for it: {errno}"))
    }

    /// Why this process, which has ended, could not become its program; none where it did.
    pub fn failure(&mut self, pid: u32, service: &Service) -> Option<String> {
        while let Some(failure) = SpawnFailure::read(self.failure_pipe_read.as_fd()) {
            self.failures.push(failure);
        }
        let place = self
            .failures
            .iter()
            .position(|failure| failure.pid == pid)?;
        let failure = self.failures.swap_remove(place);
        let program = service.exec.first().map_or("", String::as_str);
        Some(match failure.stage {
            Stage::Prepare => format!("could not be prepared: {}", failure.errno),
            Stage::Folder => format!("{}: {}", service.cwd, failure.errno),
            Stage::Devices => format!("private_devices: {}", failure.errno),
            Stage::Filter => format!("system_call_filter: {}", failure.errno),
            Stage::Directories => {
                format!("runtime_directory or state_directory: {}", failure.errno)
            }
            Stage::Rights => format!("user or capabilities: {}", failure.errno),
            Stage::Execute => format!("{program}: {}", failure.errno),
        })
    }
}
