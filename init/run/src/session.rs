//! A command from its order to its end.

use std::fs::File;
use std::io::{self, ErrorKind, PipeWriter};
use std::ops::ControlFlow;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;

use noonmark_contract::run::{BadOrder, End, Order, Program, Report};
use noonmark_linux::log;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::control::report;
use crate::{shares, streams};

/// Where programs are looked for that are named without a folder.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As a shell tells it: what is there can't be executed, and nothing is there.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What a command's end is waited for with.
#[derive(Debug)]
pub enum Event {
    /// The host says something.
    Order(Result<Order, BadOrder>),
    /// It says nothing more.
    HostGone,
    /// The command has ended, and is to be reaped.
    Ended,
}

/// What a command needs around it.
pub struct Session<'a> {
    pub control: &'a File,
    pub streams: &'a streams::Ports,
    pub sender: &'a Sender<Event>,
    pub events: &'a Receiver<Event>,
}

impl Session<'_> {
    /// Runs it. Breaks where the host is gone.
    ///
    /// # Errors
    /// Where the host can't be told, or the machine is out of something.
    pub fn run(&self, program: &Program) -> io::Result<ControlFlow<()>> {
        // Its reader sees that the command has ended, once the writer is dropped.
        let (ended, running) = io::pipe()?;
        let input_ends = streams::InputEnd::new()?;
        let (mut child, failed) = match start(program) {
            Ok(child) => (Some(child), None),
            Err(failed) => (None, Some(failed)),
        };
        let stdin = child.as_mut().and_then(|child| child.stdin.take());
        thread::scope(|scope| {
            scope.spawn(|| self.streams.feed(stdin, &input_ends, &ended));
            let attended = match (child, failed) {
                (Some(child), _) => self.attend(child, running, &ended, &input_ends),
                (None, failed) => {
                    drop(running);
                    let told = failed.map_or(Ok(()), |failed| report(self.control, &failed));
                    told.map(ControlFlow::Continue)
                }
            };
            let attended = attended.map(|alive| match alive {
                ControlFlow::Continue(()) => self.pass_over(&input_ends),
                ControlFlow::Break(()) => alive,
            });
            // Where nobody will tell it any more.
            input_ends.tell(0);
            attended
        })
    }

    /// Waits until the host has told where the command's input ends.
    fn pass_over(&self, input_ends: &streams::InputEnd) -> ControlFlow<()> {
        while !input_ends.is_told() {
            match self.events.recv() {
                Ok(Event::Order(Ok(Order::InputEnds(bytes)))) => input_ends.tell(bytes),
                Ok(Event::Order(_) | Event::Ended) => {}
                Ok(Event::HostGone) | Err(_) => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }

    /// Waits until it has ended, and tells so once its output is written.
    fn attend(
        &self,
        mut child: Child,
        running: PipeWriter,
        ended: &io::PipeReader,
        input_ends: &streams::InputEnd,
    ) -> io::Result<ControlFlow<()>> {
        let pid = Pid::from_child(&child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            let stdout = scope.spawn(|| self.streams.drain_output(stdout, ended));
            let stderr = scope.spawn(|| self.streams.drain_errors(stderr, ended));
            if let Err(error) = report(self.control, &Report::Started) {
                // Whoever reads the orders finds out as well.
                log!(Warning, "commands of the host: {error}");
            }
            let to = self.sender.clone();
            scope.spawn(move || {
                // Left to be reaped, so that its number stays its own until it gets no more signals.
                let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while waitid(WaitId::Pid(pid), how).is_err_and(|errno| errno == Errno::INTR) {}
                let _ = to.send(Event::Ended);
            });
            let mut alive = ControlFlow::Continue(());
            loop {
                match self.events.recv() {
                    Ok(Event::Order(Ok(Order::Signal(number)))) => signal(pid, number),
                    Ok(Event::Order(Ok(Order::InputEnds(bytes)))) => input_ends.tell(bytes),
                    Ok(Event::Order(Ok(Order::Run(_)) | Err(_))) => {}
                    Ok(Event::Ended) => break,
                    Ok(Event::HostGone) | Err(_) => {
                        alive = ControlFlow::Break(());
                        signal(pid, Signal::KILL.as_raw());
                    }
                }
            }
            // What it has left running in its group goes with it.
            signal(pid, Signal::KILL.as_raw());
            let status = child.wait()?;
            drop(running);
            let [stdout, stderr] = [stdout, stderr].map(|copy| copy.join().unwrap_or(0));
            if alive.is_continue() {
                let end = end(status);
                report(
                    self.control,
                    &Report::Ended {
                        end,
                        stdout,
                        stderr,
                    },
                )?;
            }
            Ok(alive)
        })
    }
}

/// Mounts what it needs, and starts it in a process group of its own.
fn start(program: &Program) -> Result<Child, Report> {
    let failed = |status, why| Err(Report::Failed { status, why });
    for share in &program.shares {
        if let Err(why) = shares::mount(share) {
            return failed(NOT_EXECUTABLE, why);
        }
    }
    let [name, arguments @ ..] = program.words.as_slice() else {
        return failed(NOT_FOUND, "there is no program to run".into());
    };
    if !Path::new(&program.cwd).is_dir() {
        let why = format!("{}: there is no such folder in the guest", program.cwd);
        return failed(NOT_EXECUTABLE, why);
    }
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/")
        .envs(&program.env)
        .current_dir(&program.cwd)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if (program.user, program.group) != (0, 0) {
        command.gid(program.group).uid(program.user);
    }
    command.spawn().or_else(|error| {
        let found = Path::new(&program.cwd).join(name);
        match error.kind() {
            ErrorKind::NotFound if name.contains('/') && found.exists() => failed(
                NOT_FOUND,
                format!(
                    "{name}: it is there, but not what runs it: its dynamic linker, or its script's \
                     interpreter"
                ),
            ),
            ErrorKind::NotFound => {
                failed(NOT_FOUND, format!("{name}: there is no such program in the guest"))
            }
            _ => failed(NOT_EXECUTABLE, format!("{name}: {error}")),
        }
    })
}

/// To its whole group, as a terminal does; there may be none of it left.
fn signal(group: Pid, number: i32) {
    if let Some(signal) = Signal::from_named_raw(number) {
        let _ = kill_process_group(group, signal);
    }
}

fn end(status: ExitStatus) -> End {
    let small = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(small(code)),
        (None, signal) => End::Killed(small(signal.unwrap_or(0))),
    }
}
