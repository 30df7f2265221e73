//! `status`: the state of a running guest's clock, once or continuously.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use console::Term;
use noonmark_contract::record::{Command, Record, Status, Topic};
use noonmark_qemu::port::StatusPort;
use noonmark_qemu::registry::{self, RunningVm};

use crate::status::live::{Screen, View};
use crate::status::{prometheus, text};

/// A guest sends a record every second, unless its image says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// The terminal's control sequences (ECMA-48, EL and ED) that clear the rest of a line, and of the
/// screen.
const CLEAR_TO_LINE_END: &str = "\u{1b}[K";
const CLEAR_TO_SCREEN_END: &str = "\u{1b}[J";

/// Tells how a running guest's clock is.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask status --watch")]
pub struct StatusCommand {
    /// Keep telling until the guest ends or Ctrl-C: on a terminal as a live view with a plot of the
    /// offset, else line by line.
    #[arg(long)]
    watch: bool,
    /// How to tell: text for people, json for programs (the record itself), prometheus for a
    /// scrape.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Which machine, by name or process number, where several run.
    #[arg(long, value_name = "NAME", conflicts_with = "port")]
    vm: Option<String>,
    /// The socket of any QEMU's chardev behind its port noonmark.status.
    #[arg(long, value_name = "PATH")]
    port: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Prometheus,
}

impl StatusCommand {
    pub fn run(self) -> Result<ExitCode> {
        let socket = match self.port {
            Some(port) => port,
            None => choose(&registry::running(), self.vm.as_deref())?.status_socket(),
        };
        let mut port = StatusPort::connect(&socket)?;
        port.send(&Command::Get(Topic::Status))?;
        match (self.watch, self.format) {
            (false, format) => once(&mut port, format)?,
            (true, Format::Text) if is_screen() => live(&mut port)?,
            (true, format) => stream(&mut port, format)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The machine that is meant.
fn choose<'a>(running: &'a [RunningVm], wanted: Option<&str>) -> Result<&'a RunningVm> {
    let names = || {
        let names: Vec<String> = running
            .iter()
            .map(|vm| format!("{} (process {})", vm.description.name, vm.description.pid))
            .collect();
        names.join(", ")
    };
    let fits = |vm: &&RunningVm| {
        wanted.is_none_or(|wanted| {
            vm.description.name == wanted || vm.description.pid.to_string() == wanted
        })
    };
    let fitting: Vec<&RunningVm> = running.iter().filter(fits).collect();
    match (fitting.as_slice(), wanted) {
        ([vm], _) => Ok(vm),
        ([], _) if running.is_empty() => bail!(
            "no machine of noonmark's runs here; start one with `cargo xtask run`, or name the \
             socket of another QEMU with --port PATH"
        ),
        ([], Some(wanted)) => bail!("no machine `{wanted}` runs; these do: {}", names()),
        _ => bail!(
            "several machines run: {}; choose one with --vm NAME or --vm PROCESS",
            names()
        ),
    }
}

fn next_status(port: &mut StatusPort) -> Result<Status> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let record = port.next(deadline).context(
            "no status record came; is this the port noonmark.status of a guest that is up?",
        )?;
        if let Record::Status(status) = record {
            return Ok(status);
        }
    }
}

fn once(port: &mut StatusPort, format: Format) -> Result<()> {
    let status = next_status(port)?;
    let output = match format {
        Format::Text => text::screen(&status),
        Format::Prometheus => prometheus::render(&status),
        Format::Json => json(&Record::Status(status))?,
    };
    print(&output)
}

/// Every record as a line, or every status as a page of metrics.
fn stream(port: &mut StatusPort, format: Format) -> Result<()> {
    loop {
        let record = port.next(Instant::now() + PATIENCE)?;
        let output = match (&record, format) {
            (_, Format::Json) => json(&record)?,
            (Record::Status(status), Format::Text) => format!("{}\n", text::line(status, None)),
            (Record::Status(status), Format::Prometheus) => prometheus::render(status),
            (Record::Event(event), Format::Text) => format!("{}\n", event.event),
            (Record::Event(_), Format::Prometheus) => continue,
        };
        print(&output)?;
    }
}

/// A screen that is kept up to date in place.
fn live(port: &mut StatusPort) -> Result<()> {
    let terminal = Term::stdout();
    let mut view = View::default();
    let mut shown = 0;
    loop {
        view.take(port.next(Instant::now() + PATIENCE)?);
        let (rows, columns) = terminal.size();
        let lines = view.frame(Screen {
            columns: columns.into(),
            rows: rows.into(),
            colours: console::colors_enabled(),
        });
        // One write, so that the screen is never seen half drawn.
        let mut frame = String::new();
        for line in &lines {
            frame += line;
            frame += CLEAR_TO_LINE_END;
            frame.push('\n');
        }
        frame += CLEAR_TO_SCREEN_END;
        terminal.move_cursor_up(shown)?;
        terminal.write_str(&frame)?;
        shown = lines.len();
    }
}

/// Whether standard output is a screen on which one can go back.
fn is_screen() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !dumb
}

fn json(record: &Record) -> Result<String> {
    let line = serde_json::to_string(record).context("the record has no JSON form")?;
    Ok(line + "\n")
}

/// To standard output at once, so that a pipe sees it; a reader that has left is an error like any.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Utc;
    use noonmark_qemu::registry::Description;

    use super::*;

    fn vm(name: &str, pid: u32) -> RunningVm {
        RunningVm {
            description: Description {
                v: 1,
                name: name.to_owned(),
                pid,
                qemu_pid: pid + 1,
                started_ns: Utc(0),
            },
            directory: PathBuf::from("/run/vm"),
        }
    }

    #[test]
    fn the_only_machine_is_meant_without_a_name() {
        let running = [vm("run", 7)];
        assert_eq!(choose(&running, None).unwrap(), &running[0]);
    }

    #[test]
    fn of_several_machines_one_must_be_named_by_name_or_process() {
        let running = [vm("run", 7), vm("recover", 9), vm("recover", 11)];
        let error = choose(&running, None).unwrap_err().to_string();
        assert!(error.contains("recover (process 11)"), "{error}");
        assert_eq!(choose(&running, Some("run")).unwrap(), &running[0]);
        assert_eq!(choose(&running, Some("11")).unwrap(), &running[2]);
        assert!(choose(&running, Some("recover")).is_err());
    }

    #[test]
    fn no_machine_and_no_such_machine_are_told_apart() {
        let none = choose(&[], Some("run")).unwrap_err().to_string();
        assert!(none.contains("cargo xtask run"), "{none}");
        let other = choose(&[vm("run", 7)], Some("x")).unwrap_err().to_string();
        assert!(other.contains("these do: run (process 7)"), "{other}");
    }
}
