//! The seed's reader as PID 1 sees it: a child, a pipe, and a deadline.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::fd::AsFd;

use noonmark_contract::config::system::SEED_PROGRAM;
use noonmark_contract::seed::verdict::{VERDICT_MAX, Verdict};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::sys::child::{self, SpawnConfig, SpawnFailure};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CapabilitySet;

use crate::services::filter;

/// How long it may take, on a slow emulated processor too.
pub const TIMEOUT: Nanos = Nanos::from_secs(10);

/// How much is taken from the pipe at one wake: the clock comes in between.
const CHUNK: usize = 64 << 10;

/// What the child needs to become nobody. With these alone it opens the disks, which are root's.
const NEEDED: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// A reader at work.
#[derive(Debug)]
pub struct Reader {
    pid: Pid,
    output: OwnedFd,
    /// Where the child tells why it could not become the program.
    failure_pipe: OwnedFd,
    answer: Vec<u8>,
    deadline: Raw,
}

/// How far it is.
#[derive(Debug)]
pub enum ReaderProgress {
    /// More is to come.
    Pending,
    /// This is its answer, or why there is none.
    Finished(Result<Verdict, String>),
}

impl Reader {
    /// Starts it on these devices of `/dev`.
    ///
    /// # Errors
    /// Why it can't be started, as a text for the report.
    pub fn start(devices: &[String], now: Raw) -> Result<Self, String> {
        let problem = |errno: Errno| format!("{SEED_PROGRAM}: {errno}");
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|error| format!("/dev/null: {error}"))?;
        let flags = PipeFlags::CLOEXEC;
        let (output, written) = pipe_with(flags).map_err(problem)?;
        let (failure_pipe, failure_pipe_write) =
            pipe_with(flags | PipeFlags::NONBLOCK).map_err(problem)?;
        rustix::io::ioctl_fionbio(&output, true).map_err(problem)?;
        let paths = devices.iter().map(|name| format!("/dev/{name}"));
        let exec: Result<Vec<CString>, _> = std::iter::once(SEED_PROGRAM.to_owned())
            .chain(paths)
            .map(CString::new)
            .collect();
        let exec = exec.map_err(|error| format!("{SEED_PROGRAM}: {error}"))?;
        let filters =
            filter::programs(NEEDED, true).map_err(|error| format!("{SEED_PROGRAM}: {error}"))?;
        let pid = child::spawn(&SpawnConfig {
            exec: &exec,
            environment: &[],
            pid_variable: None,
            cwd: c"/",
            input: null.as_fd(),
            output: written.as_fd(),
            // Not into the answer; what a foreign disk makes it say is nothing for a log either.
            errors: null.as_fd(),
            cgroup: None,
            devices: None,
            directories: &[],
            filters: &filters,
            no_new_privileges: true,
            user: 0,
            group: 0,
            capabilities_kept: NEEDED,
            failure_pipe: failure_pipe_write.as_fd(),
        })
        .map_err(problem)?;
        Ok(Self {
            pid,
            output,
            failure_pipe,
            answer: Vec::new(),
            deadline: now + TIMEOUT,
        })
    }

    /// What to wait for.
    #[must_use]
    pub fn output(&self) -> &OwnedFd {
        &self.output
    }

    /// When it is ended.
    #[must_use]
    pub fn deadline(&self) -> Raw {
        self.deadline
    }

    /// Takes in what it has written.
    pub fn poll(&mut self, now: Raw) -> ReaderProgress {
        let mut chunk = vec![0; CHUNK];
        let over = match rustix::io::read(&self.output, chunk.as_mut_slice()) {
            Ok(0) => match SpawnFailure::read(self.failure_pipe.as_fd()) {
                Some(failure) => Err(format!("it could not be started: {}", failure.errno)),
                None => Verdict::decode(&self.answer).map_err(|error| error.to_string()),
            },
            Ok(count) if self.answer.len() + count > VERDICT_MAX => {
                Err("its answer is too long".into())
            }
            Ok(count) => {
                self.answer.extend_from_slice(&chunk[..count]);
                return ReaderProgress::Pending;
            }
            Err(Errno::AGAIN | Errno::INTR) if now < self.deadline => {
                return ReaderProgress::Pending;
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                Err(format!("it gave no answer within {TIMEOUT}, and is ended"))
            }
            Err(errno) => Err(errno.to_string()),
        };
        // It has ended by itself, or has to; the loop reaps it. One that waits for a disk in the
        // kernel ends later, and keeps nobody waiting.
        let _ = kill_process(self.pid, Signal::KILL);
        ReaderProgress::Finished(over.map_err(|problem| format!("the seed's reader: {problem}")))
    }
}
