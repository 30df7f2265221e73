//! `run -- COMMAND`: a command in a guest of its own.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use noonmark_builder::image::{Image, Variant};
use noonmark_builder::progress::{self, Step};
use noonmark_builder::run::write_initrd;
use noonmark_builder::workspace::Workspace;
use noonmark_contract::units::Nanos;
use noonmark_image::artifact::{CMDLINE, INITRD, KERNEL};
use noonmark_qemu::runtime_dir::RuntimeDir;
use noonmark_qemu::{Boot, Config, Ended, Machine, MachineError, RunningCommand, Streams, signals};
use serde::Serialize;

use crate::guest;
use crate::nested::{self, Errand, Stop};
use crate::options::{Host, duration, span};

use super::plan::Plan;
use super::share::ShareOption;
use super::{BootBy, RunCommand};

/// What timeout(1) exits with where the time is over.
const TIMED_OUT: u8 = 124;

/// How long a command may take to end after the SIGTERM that says so.
const TERM_GRACE: Duration = Duration::from_secs(5);

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Options that have a meaning with a command alone.
#[derive(Debug, Args)]
pub struct CommandOptions {
    /// A command to run in the guest once its clock is right, in place of watching the clock: its
    /// standard streams are this program's, and so is its exit status (128 and the signal's number where
    /// one ended it). It is a path in a shared folder, a program of the image, or one of this machine,
    /// which is brought along with its libraries. It runs as root. Ctrl-C sends it SIGINT, the second
    /// one ends the machine.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// A folder of this machine for the guest, at PATH [default: where it is here]; may be repeated.
    #[arg(long, value_name = "DIR[:PATH][,ro]", requires = "command")]
    pub share: Vec<ShareOption>,
    /// A variable of the command's environment; without a value, this program's; may be repeated.
    #[arg(long, value_name = "NAME[=VALUE]", requires = "command")]
    pub env: Vec<String>,
    /// The folder in the guest in which the command starts [default: the current one where it is
    /// shared, else /].
    #[arg(
        long,
        visible_alias = "chdir",
        value_name = "DIR",
        requires = "command"
    )]
    pub cwd: Option<String>,
    /// The user, and the group, that the command runs as, in numbers [default: 0:0].
    #[arg(long, value_name = "UID[:GID]", requires = "command", value_parser = user)]
    pub user: Option<(u32, u32)>,
    /// How long the command may take; then it gets SIGTERM, and the exit status is 124.
    #[arg(long, value_name = "SPAN", requires = "command", value_parser = span)]
    pub timeout: Option<Nanos>,
    /// Write how the command ended and how long what took, as JSON.
    #[arg(long, value_name = "FILE", requires = "command")]
    pub json: Option<PathBuf>,
    /// Say what is done, and how long the first byte of output took.
    #[arg(long, short, requires = "command")]
    pub verbose: bool,
    /// What the machine on which the command was called has settled.
    #[arg(long, hide = true, value_name = "FILE", requires = "command")]
    plan: Option<PathBuf>,
}

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
struct Run<'a> {
    options: &'a CommandOptions,
    began: Instant,
    machine: Machine,
    synced: Instant,
}

impl RunCommand {
    /// Runs the command, and gives its exit status.
    pub(super) fn run_command(self, workspace: &Workspace) -> Result<ExitCode> {
        let began = Instant::now();
        if self.boot != BootBy::Direct {
            bail!(
                "a command runs in a guest that is booted directly; leave out --boot and --firmware"
            );
        }
        if let Some(file) = &self.command.json {
            let folder = file
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            if !folder.unwrap_or(Path::new(".")).is_dir() {
                bail!("--json {}: there is no such folder", file.display());
            }
        }
        if !self.command.verbose {
            progress::be_quiet();
        }
        let variant = Variant::Run {
            shares: !self.command.share.is_empty(),
            faults: false,
        };
        let machine = self.nesting()?;
        let (host, image) = machine.prepare(workspace, &self.spec, variant)?;
        let folder = RuntimeDir::create()?;
        let plan = match &self.command.plan {
            Some(file) => serde_json::from_slice(&fs::read(file)?)
                .with_context(|| format!("{} is broken", file.display()))?,
            None => Plan::new(&self.command, &image.spec, folder.join("archive"))?,
        };
        let size = machine.size(&image.spec.vm);
        let devices = self.devices(&image.spec)?;
        if host.is_elsewhere() {
            let file = folder.join("plan.json");
            fs::write(&file, serde_json::to_vec(&plan)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
            let spec_file = self.spec.path(workspace);
            let shares = plan.program.shares.iter().zip(&plan.folders);
            let mut errand = Errand::new(workspace, &host, &self.name, size.memory_mib, spec_file)
                .input(&image.folder)
                .input(&plan.archive)
                .input(&file)
                .forwards(self.forward.clone())
                .arguments(["--plan".to_owned(), file.display().to_string()])
                .outputs(&self.command.json)
                .with_stdin()
                .stop(Stop::Asked);
            for (share, folder) in shares {
                errand = errand.share(&share.tag, folder, share.read_only);
            }
            return nested::run(&self.seed_disk.iter().fold(errand, Errand::input));
        }
        let initrd = folder.join("initrd");
        let archive = fs::read(&plan.archive)
            .with_context(|| format!("cannot read {}", plan.archive.display()))?;
        write_initrd(&archive, &image.folder.join(INITRD), &initrd)?;
        let boot = direct_boot(&image, initrd)?;
        let config = Config {
            command_ports: true,
            devices: devices.into_iter().chain(plan.devices()).collect(),
            more: self.qemu_arg.clone(),
            ..host.machine(&self.name, &size, boot)
        };
        Run::start(&self.command, began, &host, config, &plan)
    }
}

/// Boots this initrd in the place of the image's own.
fn direct_boot(image: &Image, initrd: PathBuf) -> Result<Boot> {
    let file = |name: &str| image.folder.join(name);
    Ok(Boot::direct(file(KERNEL), initrd, &file(CMDLINE))?)
}

impl<'a> Run<'a> {
    fn start(
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

/// `UID[:GID]`; the group is as the user where it is left out.
fn user(text: &str) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|number| *number < u32::MAX);
    number(user)
        .zip(number(group))
        .ok_or_else(|| "expected UID or UID:GID in numbers, e.g. 1000:1000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_and_its_group_too() {
        assert_eq!(user("1000"), Ok((1000, 1000)));
        assert_eq!(user("0:5"), Ok((0, 5)));
        for wrong in ["", "root", "1:", "-1", "4294967295"] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
    }
}
