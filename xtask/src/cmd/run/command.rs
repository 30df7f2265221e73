//! `run -- COMMAND`: a command in a guest of its own.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use noonmark_builder::image::Image;
use noonmark_builder::progress::{self, Step};
use noonmark_image::artifact::{CMDLINE, KERNEL};
use noonmark_qemu::{Boot, Config, Ended, Machine, MachineError, RunningCommand, Streams, signals};
use serde::Serialize;

use crate::guest;
use crate::options::{Host, duration};

use super::options::CommandOptions;
use super::plan::Plan;

/// What timeout(1) exits with where the time is over.
const TIMED_OUT: u8 = 124;

/// How long a command may take to end after the SIGTERM that says so.
const TERM_GRACE: Duration = Duration::from_secs(5);

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// What is written for other programs.
#[derive(Debug, Serialize)]
struct Report<'a> {
    v: u32,
    command: &'a [String],
    /// As a shell has it.
    status: u8,
    signal: Option<u8>,
    /// Why it did not run.
    error: Option<&'a str>,
    timed_out: bool,
    stdout_bytes: u64,
    stderr_bytes: u64,
    accelerator: String,
    qemu: &'a str,
    /// From QEMU's start, in seconds.
    synced_s: f64,
    /// To the first byte of output, where there was one.
    first_output_s: Option<f64>,
    /// To the command's end.
    ended_s: f64,
    /// From this program's start to the first byte of output, with a build where the image was stale.
    start_to_first_output_s: Option<f64>,
}

/// A command with its guest.
pub struct Run<'a> {
    options: &'a CommandOptions,
    began: Instant,
    machine: Machine,
    synced: Instant,
}

/// Boots this initrd in the place of the image's own.
///
/// # Errors
///
/// The image has no readable command line.
pub fn direct_boot(image: &Image, initrd: PathBuf) -> Result<Boot> {
    let file = |name: &str| image.folder.join(name);
    Ok(Boot::direct(file(KERNEL), initrd, &file(CMDLINE))?)
}

impl<'a> Run<'a> {
    /// Boots the guest, runs the command, and gives its exit status.
    ///
    /// # Errors
    ///
    /// The guest or its QEMU died, its clock is not right in time, or the report can't be written.
    pub fn start(
        options: &'a CommandOptions,
        began: Instant,
        host: &Host,
        config: Config,
        plan: &Plan,
    ) -> Result<ExitCode> {
        let step = Arc::new(Mutex::new(Some(progress::step("the guest boots"))));
        let mut machine = Machine::start(&host.qemu, config)?;
        let records = machine.subscribe();
        // It waits in the port for whoever runs it, who starts with the clock's first sync.
        let running = machine.start_command(
            &plan.program,
            Streams {
                stdin: Box::new(io::stdin()),
                stdout: Box::new(Clearing::new(&step, io::stdout())),
                stderr: Box::new(Clearing::new(&step, io::stderr())),
            },
        )?;
        machine.wait_synced(&records, |_| {})?;
        drop(records);
        clear(&step);
        let mut run = Run {
            options,
            began,
            machine,
            synced: Instant::now(),
        };
        let first = running.first_output();
        let (ended, timed_out) = run.wait(running)?;
        let at = Instant::now();
        run.report(&ended, timed_out, first.get().copied(), at)?;
        guest::power_off(run.machine)?;
        if let Ended::NotRun { why, .. } = &ended {
            progress::clear();
            eprintln!("error: the guest can't run it: {why}");
        }
        Ok(ExitCode::from(match timed_out {
            true => TIMED_OUT,
            false => ended.status(),
        }))
    }

    /// Waits for the command's end, and says whether that came by its time being over.
    fn wait(&mut self, running: RunningCommand) -> Result<(Ended, bool)> {
        let signaller = running.signaller();
        let asked = signaller.clone();
        let _soft = signals::on_first_signal(move || {
            // Where it does not arrive, the next Ctrl-C ends all.
            let _ = asked.signal(SIGINT);
        });
        let mut running = Some(running);
        let limit = self.options.timeout.map(duration);
        let deadline = limit.map(|limit| self.synced + limit);
        match self.machine.wait_command(&mut running, deadline) {
            Ok(ended) => return Ok((ended, false)),
            Err(MachineError::Deadline { .. }) if limit.is_some() => {}
            Err(error) => return Err(error.into()),
        }
        signaller.signal(SIGTERM)?;
        let grace = Instant::now() + TERM_GRACE;
        match self.machine.wait_command(&mut running, Some(grace)) {
            Ok(ended) => Ok((ended, true)),
            Err(MachineError::Deadline { .. }) => {
                let why = "it did not end in time, nor by SIGTERM".to_owned();
                let status = TIMED_OUT;
                Ok((Ended::NotRun { status, why }, true))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn report(
        &self,
        ended: &Ended,
        timed_out: bool,
        first: Option<Instant>,
        at: Instant,
    ) -> Result<()> {
        let from_start = |instant: Instant| {
            let since = instant.saturating_duration_since(self.machine.started());
            since.as_secs_f64()
        };
        if let Some(first) = first {
            progress::note(format!(
                "synced {:.3} s after QEMU's start, the first byte of output after {:.3} s",
                from_start(self.synced),
                from_start(first)
            ));
        }
        let Some(file) = &self.options.json else {
            return Ok(());
        };
        let (signal, error) = match ended {
            Ended::Ran { end, .. } => (end.signal(), None),
            Ended::NotRun { why, .. } => (None, Some(why.as_str())),
        };
        let [stdout_bytes, stderr_bytes] = ended.bytes();
        let report = Report {
            v: 1,
            command: &self.options.command,
            status: ended.status(),
            signal,
            error,
            timed_out,
            stdout_bytes,
            stderr_bytes,
            accelerator: self.machine.config().accelerator.to_string(),
            qemu: self.machine.qemu_version(),
            synced_s: from_start(self.synced),
            first_output_s: first.map(from_start),
            ended_s: from_start(at),
            start_to_first_output_s: first
                .map(|first| first.saturating_duration_since(self.began).as_secs_f64()),
        };
        let text = serde_json::to_vec_pretty(&report)?;
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// An output of the command's, before whose first byte what is shown of the boot vanishes.
struct Clearing<W> {
    step: Arc<Mutex<Option<Step>>>,
    to: W,
}

impl<W> Clearing<W> {
    fn new(step: &Arc<Mutex<Option<Step>>>, to: W) -> Self {
        let step = Arc::clone(step);
        Self { step, to }
    }
}

impl<W: Write> Write for Clearing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        clear(&self.step);
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn clear(step: &Mutex<Option<Step>>) {
    let step = step.lock().unwrap_or_else(PoisonError::into_inner).take();
    step.into_iter().for_each(Step::vanish);
}
