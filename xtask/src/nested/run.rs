//! The side on this machine: boots the emulated host, has it run the command, and shows what comes
//! back.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use noonmark_builder::kvm_host;
use noonmark_builder::packages::Pins;
use noonmark_builder::progress;
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::workspace::Workspace;
use noonmark_image::output;
use noonmark_image::spec::Description;
use noonmark_lab::report::host::Host as ThisMachine;
use noonmark_qemu::accel::Accelerator;
use noonmark_qemu::kvm_host::{KvmHost, LINK_PORT, PARAMETER, STATUS_PORT};
use noonmark_qemu::runtime_dir::RuntimeDir;
use noonmark_qemu::{Boot, Config, Device, Forward, Kick, Machine, MachineError, signals};

use crate::options::Host;

use super::frame::{self, Command, Order, Report, SharedFolder};
use super::input::Input;
use super::terminal;

/// How often it is looked whether the emulated host is still well.
const HEALTH_CHECK: Duration = Duration::from_millis(200);

/// How long a host that boots may take until it asks for orders.
const BOOT_DEADLINE: Duration = Duration::from_secs(180);

/// As many processors as an experiment uses; more only cost memory and boot time.
const VCPUS_MAX: usize = 8;

/// What of this program's environment a command may go by.
const ENVIRONMENT: [&str; 9] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_TARGET_DIR",
    "CLICOLOR",
    "COLUMNS",
    "LANG",
    "NO_COLOR",
    "NOONMARK_QEMU",
    "RUST_BACKTRACE",
    "TERM",
];

/// What Ctrl-C does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It ends everything at once.
    AtOnce,
    /// The first one is the command's to act on.
    Asked,
}

/// A command that is to be run in the emulated host.
#[derive(Debug)]
pub struct Errand<'a> {
    workspace: &'a Workspace,
    host: &'a Host,
    /// What `status` calls its guest.
    name: String,
    guest_memory_mib: u32,
    /// The guest's description, beside which its lock is.
    spec_file: PathBuf,
    stop: Stop,
    inputs: Vec<PathBuf>,
    outputs: Vec<PathBuf>,
    forwards: Vec<Forward>,
    shares: Vec<(SharedFolder, PathBuf)>,
    stdin: bool,
    /// What follows this program's own arguments, before those of a command's.
    arguments: Vec<String>,
}

impl<'a> Errand<'a> {
    /// This program's own command line, whose guests are called `name`, have so much memory, and are of
    /// this description.
    pub fn new(
        workspace: &'a Workspace,
        host: &'a Host,
        name: impl Into<String>,
        guest_memory_mib: u32,
        spec_file: PathBuf,
    ) -> Self {
        Self {
            workspace,
            host,
            name: name.into(),
            guest_memory_mib,
            stop: Stop::AtOnce,
            // By it the workspace is found.
            inputs: vec![workspace.landmark()],
            spec_file,
            outputs: Vec::new(),
            forwards: Vec::new(),
            shares: Vec::new(),
            stdin: false,
            arguments: Vec::new(),
        }
    }

    /// Sends a file along, or all files of a folder.
    pub fn input(mut self, path: impl Into<PathBuf>) -> Self {
        self.inputs.push(path.into());
        self
    }

    /// Sends the image along that lies where this boot takes its files from.
    pub fn guest(self, boot: &Boot) -> Self {
        let (Boot::Direct { kernel: file, .. } | Boot::Uefi { disk: file, .. }) = boot;
        let folder = file.parent().map(Path::to_owned);
        folder.into_iter().fold(self, Self::input)
    }

    /// Brings back what the command writes to these files.
    pub fn outputs<'b>(mut self, paths: impl IntoIterator<Item = &'b PathBuf>) -> Self {
        self.outputs.extend(paths.into_iter().cloned());
        self
    }

    /// Lets the ports of this machine that lead to the guest's lead there.
    pub fn forwards(mut self, forwards: Vec<Forward>) -> Self {
        self.forwards.extend(forwards);
        self
    }

    /// Lets the emulated host have a folder of this machine, by this tag.
    pub fn share(mut self, tag: &str, folder: &Path, read_only: bool) -> Self {
        let tag = tag.to_owned();
        let shared = SharedFolder { tag, read_only };
        self.shares.push((shared, folder.to_owned()));
        self
    }

    /// Has the command read this program's standard input.
    pub fn with_stdin(self) -> Self {
        Self {
            stdin: true,
            ..self
        }
    }

    /// Adds arguments that settle what this program's own leave open.
    pub fn arguments(mut self, words: impl IntoIterator<Item = String>) -> Self {
        self.arguments.extend(words);
        self
    }

    /// What Ctrl-C does; at first it ends everything at once.
    pub fn stop(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }
}

/// Runs the command in an emulated host, and gives its exit status.
///
/// # Errors
///
/// The host can't be built or booted, has no KVM, or ended before the command did.
pub fn run(errand: &Errand<'_>) -> Result<ExitCode> {
    let description = Description::read(&errand.spec_file)?;
    let built = {
        let _lock = StateLock::acquire(errand.workspace)?;
        let suite = errand.host.kernel_suite.as_deref();
        let pins = Pins::beside(&description, false)?;
        kvm_host::build(errand.workspace, &errand.host.qemu, suite, &pins)
            .context("no emulated KVM host; --accel tcg does without one")?
    };
    let step = progress::step("the emulated KVM host boots");
    let directory = RuntimeDir::create()?;
    let socket = directory.join("link");
    let token = token()?;
    let config = config(errand, with_token(built, &token), &socket);
    let mut machine = Machine::start(&errand.host.qemu, config)?;
    let mut link = Link::connect(&socket)?;
    let deadline = machine.started() + BOOT_DEADLINE;
    let awaited = "the emulated host's readiness";
    let ready = loop {
        match link.next(&mut machine, awaited, Some(deadline))?.0 {
            Report::Ready(ready) => break ready,
            // It has ended before it could say that, and says why.
            Report::Ended(Err(why)) => break Err(why),
            _ => {}
        }
    };
    if let Err(why) = ready {
        bail!("the emulated KVM host can't be used: {why}; use --accel tcg");
    }
    let described = description.files().iter().map(|part| part.file.clone());
    let inputs = errand.inputs.iter().cloned().chain(described);
    link.send_inputs(&inputs.collect::<Vec<_>>())?;
    link.send(
        &Order::Run(Box::new(command(errand, &machine, token)?)),
        &[],
    )?;
    step.done("the emulated KVM host is up");
    let input = errand
        .stdin
        .then(|| Input::start(&link.orders))
        .transpose()?;
    let asked = Arc::clone(&link.orders);
    let _soft = (errand.stop == Stop::Asked).then(|| {
        signals::on_first_signal(move || {
            // Where it does not arrive, the next Ctrl-C ends all.
            let _ = frame::send(&asked, &Order::Interrupt, &[]);
        })
    });
    show(&mut link, &mut machine, input.as_ref())
}

/// Shows what the command says until its end.
fn show(link: &mut Link, machine: &mut Machine, input: Option<&Input>) -> Result<ExitCode> {
    let awaited = "the command's end";
    loop {
        let (report, body) = link.next(machine, awaited, None)?;
        match report {
            Report::Ready(_) => {}
            // Whoever closed these wants to see no more of it.
            Report::Output => drop(
                io::stdout()
                    .write_all(&body)
                    .and_then(|()| io::stdout().flush()),
            ),
            Report::Error => drop(io::stderr().write_all(&body)),
            Report::Taken => input.into_iter().for_each(Input::taken),
            Report::File { path } => output::write_file(&path, &body)?,
            Report::Suspend(millis) => {
                let suspended = suspend(machine, Duration::from_millis(millis));
                let suspended = suspended.map_err(|error| error.to_string());
                link.send(&Order::Suspended(suspended), &[])?;
            }
            Report::Ended(Ok(status)) => return Ok(ExitCode::from(status)),
            Report::Ended(Err(why)) => bail!("the command in the emulated host: {why}"),
        }
    }
}

/// Has the emulated host stand still.
fn suspend(machine: &mut Machine, span: Duration) -> Result<(), MachineError> {
    machine.pause()?;
    thread::sleep(span);
    machine.resume(Kick::Withheld).map(drop)
}

fn config(errand: &Errand<'_>, boot: Boot, socket: &Path) -> Config {
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Each port of this machine leads to the same one of the emulated host, where its own QEMU has it
    // lead to the guest's.
    let ports = errand.forwards.iter().map(|forward| Forward {
        guest: forward.host,
        ..*forward
    });
    let shares = errand.shares.iter().map(|(shared, folder)| Device::Share {
        folder: folder.clone(),
        tag: shared.tag.clone(),
        read_only: shared.read_only,
    });
    let network = (!errand.forwards.is_empty()).then(|| Device::Net {
        forwards: ports.collect(),
        on: Ipv4Addr::LOCALHOST,
    });
    let link = Device::Port {
        name: LINK_PORT.to_owned(),
        socket: socket.to_owned(),
    };
    // The cable is for what keeps the host's clock by PTP.
    let devices = [link, Device::Cable]
        .into_iter()
        .chain(network)
        .chain(shares);
    Config {
        vcpus: u32::try_from(cpus.clamp(2, VCPUS_MAX)).unwrap_or(2),
        memory_mib: KvmHost::memory_mib(errand.guest_memory_mib),
        status_port: STATUS_PORT,
        time_channel: false,
        devices: devices.collect(),
        ..Config::new(&errand.name, Accelerator::Tcg, boot)
    }
}

fn with_token(mut boot: Boot, token: &str) -> Boot {
    if let Boot::Direct { cmdline, .. } = &mut boot {
        *cmdline += &format!(" {PARAMETER}={token}");
    }
    boot
}

/// A word that nobody else has.
fn token() -> Result<String> {
    let file = "/proc/sys/kernel/random/uuid";
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    Ok(text.trim().to_owned())
}

fn command(errand: &Errand<'_>, machine: &Machine, token: String) -> Result<Command> {
    let here = ThisMachine::here();
    let words = env::args_os().skip(1).map(|word| {
        let text = word.into_string();
        text.map_err(|word| anyhow!("{} is no text", word.display()))
    });
    let mut arguments: Vec<String> = words.collect::<Result<_>>()?;
    let own = arguments.iter().position(|word| word == "--");
    let at = own.unwrap_or(arguments.len());
    arguments.splice(at..at, errand.arguments.iter().cloned());
    let folder = env::current_dir().context("cannot tell the current folder")?;
    let outputs = errand.outputs.iter().map(|path| folder.join(path));
    Ok(Command {
        arguments,
        shares: errand
            .shares
            .iter()
            .map(|(shared, _)| shared.clone())
            .collect(),
        stdin: errand.stdin,
        environment: ENVIRONMENT
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?)))
            .collect::<BTreeMap<_, _>>(),
        outputs: outputs.collect(),
        folder,
        terminal: terminal::size(),
        host: KvmHost {
            token,
            qemu: machine.qemu_version().to_owned(),
            kernel: here.kernel,
            cpu: here.cpu,
            reason: errand.host.decision.reason.clone(),
        },
    })
}

/// The port to the emulated host.
struct Link {
    orders: Arc<Mutex<UnixStream>>,
    reports: Receiver<io::Result<(Report, Vec<u8>)>>,
}

impl Link {
    fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        let mut from = stream.try_clone()?;
        let (to, reports) = mpsc::channel();
        thread::Builder::new()
            .name("emulated host".to_owned())
            .spawn(move || {
                loop {
                    let report = frame::read(&mut from);
                    let ended = report.is_err();
                    if to.send(report).is_err() || ended {
                        break;
                    }
                }
            })?;
        Ok(Self {
            orders: Arc::new(Mutex::new(stream)),
            reports,
        })
    }

    /// The next report. Without a deadline it is waited for as long as the host runs.
    fn next(
        &mut self,
        machine: &mut Machine,
        awaited: &'static str,
        deadline: Option<Instant>,
    ) -> Result<(Report, Vec<u8>)> {
        loop {
            match self.reports.recv_timeout(HEALTH_CHECK) {
                Ok(Ok(report)) => return Ok(report),
                Err(RecvTimeoutError::Timeout) => {
                    let later = Instant::now() + HEALTH_CHECK;
                    machine.check(awaited, deadline.unwrap_or(later))?;
                }
                Ok(Err(error)) => {
                    // Why it ended is in QEMU's own words and on its console, if it did.
                    thread::sleep(HEALTH_CHECK);
                    machine.check(awaited, Instant::now() + HEALTH_CHECK)?;
                    return Err(error).context("the emulated KVM host");
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the emulated KVM host is gone"),
            }
        }
    }

    fn send(&self, order: &Order, body: &[u8]) -> Result<()> {
        frame::send(&self.orders, order, body).context("cannot send to the emulated KVM host")
    }

    /// Sends each file, and of a folder those that lie in it.
    fn send_inputs(&self, paths: &[PathBuf]) -> Result<()> {
        for path in paths {
            let named = || format!("cannot read {}", path.display());
            let path = std::path::absolute(path).with_context(named)?;
            if !path.is_dir() {
                self.send_file(&path)?;
                continue;
            }
            for entry in fs::read_dir(&path).with_context(named)? {
                let file = entry.with_context(named)?.path();
                if file.is_file() {
                    self.send_file(&file)?;
                }
            }
        }
        Ok(())
    }

    fn send_file(&self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let path = path.to_owned();
        self.send(&Order::File { path }, &bytes)
    }
}
