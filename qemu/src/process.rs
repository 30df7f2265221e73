//! A child process, such as QEMU, that ends when its owner does, however that ends.
//!
//! Three things see to it. Dropping a [`Process`] kills its whole process group and waits for it. A
//! signal to this program does the same, through [`crate::signals`]. And where this program is
//! itself killed, the kernel kills QEMU (`PR_SET_PDEATHSIG`, set by util-linux's `setpriv`). The
//! gap before `setpriv` has set that is closed by the sockets: QEMU connects to its owner's, and
//! exits if nobody listens any more.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::signals::{self, CleanupGuard};

/// The program through which a process is started (setpriv(1)).
pub const LAUNCHER: &str = "setpriv";

/// How long a killed process may take to be gone; only one stuck in the kernel needs any of it.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// A running or ended process with its group.
#[derive(Debug)]
pub struct Process {
    shared: Arc<Shared>,
    _on_signal: CleanupGuard,
}

/// The pipes that a process writes to.
#[derive(Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
}

/// What the thread that waits for the process and its owners share.
#[derive(Debug)]
struct Shared {
    pid: Pid,
    status: Mutex<Option<ExitStatus>>,
    exited: Condvar,
}

impl Process {
    /// Starts `program` in a process group of its own, with nothing on its standard input.
    ///
    /// # Errors
    /// Where `setpriv` or a thread cannot be started.
    pub fn spawn(program: &Path, arguments: &[OsString]) -> io::Result<(Self, Output)> {
        let mut command = Command::new(LAUNCHER);
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let ((shared, output), on_signal) = signals::register_with(|| {
            let (shared, output) = start_waiter(command)?;
            let shared_too = Arc::clone(&shared);
            let cleanup = move || shared_too.kill_and_wait();
            Ok::<_, io::Error>(((shared, output), cleanup))
        })?;
        let process = Self {
            shared,
            _on_signal: on_signal,
        };
        Ok((process, output))
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.shared.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills it and waits for its end.
    pub fn kill(&self) {
        self.shared.kill_and_wait();
    }

    /// How it exited; none while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.shared.lock()
    }

    /// Waits for its end, until the deadline.
    #[must_use]
    pub fn wait(&self, deadline: Instant) -> Option<ExitStatus> {
        self.shared.wait(deadline)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shared.kill_and_wait();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, deadline: Instant) -> Option<ExitStatus> {
        let mut status = self.lock();
        while status.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            status = self
                .exited
                .wait_timeout(status, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *status
    }

    fn kill_and_wait(&self) {
        let status = self.lock();
        if status.is_none() {
            // The waiting thread reaps only under this lock, so the number is still this process's.
            // ESRCH, the only failure possible here, means that it is gone already.
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
        drop(status);
        let _ = self.wait(Instant::now() + KILL_DEADLINE);
    }
}

/// Starts the process from a thread that lives as long as it does.
///
/// The kernel sends the parent-death signal when the *thread* that started a child ends, so a
/// short-lived one would take QEMU with it.
fn start_waiter(mut command: Command) -> io::Result<(Arc<Shared>, Output)> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("qemu-waiter".to_owned())
        .spawn(move || {
            let started = command.spawn().and_then(|mut child| {
                let output = take_output(&mut child)?;
                let pid = i32::try_from(child.id())
                    .ok()
                    .and_then(Pid::from_raw)
                    .ok_or_else(|| io::Error::other("the system gave an impossible process id"))?;
                let shared = Arc::new(Shared {
                    pid,
                    status: Mutex::new(None),
                    exited: Condvar::new(),
                });
                Ok((child, shared, output))
            });
            match started {
                Ok((child, shared, output)) => {
                    let _ = sender.send(Ok((Arc::clone(&shared), output)));
                    wait_and_reap(child, &shared);
                }
                Err(error) => {
                    let _ = sender.send(Err(error));
                }
            }
        })?;
    receiver
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that starts QEMU ended")))
}

fn take_output(child: &mut Child) -> io::Result<Output> {
    match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), Some(stderr)) => Ok(Output { stdout, stderr }),
        _ => Err(io::Error::other("no pipes to the process")),
    }
}

/// Waits for the process's end, then reaps it together with what is left of its group.
fn wait_and_reap(mut child: Child, shared: &Shared) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let waited = || rustix::process::waitid(WaitId::Pid(shared.pid), options);
    while matches!(waited(), Err(rustix::io::Errno::INTR)) {}
    let mut status = shared.lock();
    // A wrapper script may have left the real QEMU behind.
    let _ = rustix::process::kill_process_group(shared.pid, Signal::KILL);
    *status = Some(
        child
            .wait()
            // Reaped by somebody else: it is gone, and how it ended is not known.
            .unwrap_or_else(|_| ExitStatus::from_raw(0)),
    );
    shared.exited.notify_all();
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn shell(script: &str) -> (Process, Output) {
        Process::spawn(Path::new("/bin/sh"), &["-c".into(), script.into()]).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn gone(pid: u32) -> bool {
        !Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_process_is_gone_with_its_whole_group() {
        let (process, mut output) = shell("sleep 1000 & echo $!; wait");
        let mut digits = String::new();
        let mut byte = [0];
        while output.stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            digits.push(char::from(byte[0]));
        }
        let pid = process.pid();
        drop(process);
        assert!(gone(pid));
        // The grandchild's pipe end closes with its death, whoever reaps it.
        let mut rest = Vec::new();
        output.stdout.read_to_end(&mut rest).unwrap();
        assert!(!digits.is_empty() && rest.is_empty());
    }

    #[test]
    fn an_end_is_noticed_with_its_status() {
        let (process, _output) = shell("exit 7");
        assert_eq!(process.wait(soon()).and_then(|e| e.code()), Some(7));
        assert_eq!(process.exit_status().and_then(|e| e.code()), Some(7));
    }

    #[test]
    fn a_process_outlives_the_thread_that_asked_for_it() {
        let (process, _output) = thread::spawn(|| shell("sleep 1000")).join().unwrap();
        assert_eq!(
            process.wait(Instant::now() + Duration::from_millis(300)),
            None
        );
    }

    #[test]
    fn a_program_that_cannot_run_ends_with_a_word_on_standard_error() {
        let (process, mut output) = Process::spawn(Path::new("/nonexistent/qemu"), &[]).unwrap();
        let status = process.wait(soon()).unwrap();
        assert!(!status.success());
        let mut text = String::new();
        output.stderr.read_to_string(&mut text).unwrap();
        assert!(text.contains("/nonexistent/qemu"), "{text}");
    }
}
