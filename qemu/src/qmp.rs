//! A client of QEMU's monitor protocol, QMP: commands with their answers, and events.
//!
//! One command is under way at a time; events that come in between are kept, the oldest dropped
//! beyond a bound. Every wait has a deadline. Protocol: QEMU's `docs/interop/qmp-spec.rst`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use noonmark_contract::units::Utc;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lines::{LineReader, ReadError};

/// Events that are kept until somebody asks for them.
const EVENTS_MAX: usize = 256;

/// How long a write may take; QEMU always reads its monitor.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// A connected monitor.
#[derive(Debug)]
pub struct Qmp {
    lines: LineReader,
    version: String,
    next_id: u64,
    events: VecDeque<QmpEvent>,
}

/// Something that QEMU tells unasked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct QmpEvent {
    /// Its name, such as `RESUME` or `SHUTDOWN`.
    #[serde(rename = "event")]
    pub name: String,
    /// What belongs to it.
    #[serde(default)]
    pub data: Value,
    /// When QEMU says it happened.
    pub timestamp: QmpTime,
}

/// QEMU's clock at an event: the host's UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct QmpTime {
    seconds: i64,
    microseconds: i64,
}

impl QmpTime {
    /// As an instant; none where QEMU had no time.
    #[must_use]
    pub fn utc(self) -> Option<Utc> {
        let ns = self.seconds.checked_mul(1_000_000_000)?;
        (self.seconds >= 0).then_some(Utc(ns.checked_add(self.microseconds.checked_mul(1000)?)?))
    }
}

/// Whether the machine runs, as `query-status` says it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RunState {
    /// Whether its processors run.
    pub running: bool,
    /// The state's name, such as `running`, `paused`, `internal-error`.
    pub status: String,
}

/// What went wrong with the monitor.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nothing came, or the connection broke.
    #[error("QEMU's monitor, waiting for {awaited}: {source}")]
    Read {
        /// What was expected.
        awaited: String,
        /// What came instead.
        source: ReadError,
    },
    /// The command could not be sent.
    #[error("QEMU's monitor does not take `{command}`: {source}")]
    Write {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// QEMU refused the command.
    #[error("QEMU refused `{command}`: {why}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        why: String,
    },
    /// Something that is no QMP.
    #[error("QEMU's monitor said something that is not QMP: {0}")]
    Malformed(String),
}

#[derive(Deserialize)]
struct Greeting {
    #[serde(rename = "QMP")]
    qmp: Hello,
}

#[derive(Deserialize)]
struct Hello {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    qemu: Numbers,
    package: String,
}

#[derive(Deserialize)]
struct Numbers {
    major: u32,
    minor: u32,
    micro: u32,
}

impl Qmp {
    /// Takes the greeting and enables commands.
    ///
    /// # Errors
    /// Where the other side is no QMP server, or does not answer before the deadline.
    pub fn connect(stream: UnixStream, deadline: Instant) -> Result<Self, QmpError> {
        stream
            .set_write_timeout(Some(WRITE_DEADLINE))
            .map_err(|source| QmpError::Write {
                command: "qmp_capabilities".to_owned(),
                source,
            })?;
        let mut lines = LineReader::new(stream);
        let line = lines.next(deadline).map_err(|source| QmpError::Read {
            awaited: "the greeting".to_owned(),
            source,
        })?;
        let greeting: Greeting = serde_json::from_slice(&line).map_err(|_| malformed(&line))?;
        let mut qmp = Self {
            lines,
            version: greeting.qmp.version.words(),
            next_id: 1,
            events: VecDeque::new(),
        };
        qmp.execute("qmp_capabilities", json!({}), deadline)?;
        Ok(qmp)
    }

    /// QEMU's version: `10.0.2 (Debian …)`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Runs a command and returns its answer.
    ///
    /// # Errors
    /// Where QEMU refuses it, or does not answer before the deadline.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        deadline: Instant,
    ) -> Result<Value, QmpError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
        line.push('\n');
        self.lines
            .stream()
            .write_all(line.as_bytes())
            .map_err(|source| QmpError::Write {
                command: command.to_owned(),
                source,
            })?;
        let awaited = format!("the answer to `{command}`");
        loop {
            let mut answer = self.message(&awaited, deadline)?;
            // An answer that came too late for an earlier command has another id.
            if answer.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            if let Some(error) = answer.get("error") {
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    why: error["desc"]
                        .as_str()
                        .unwrap_or("no reason given")
                        .to_owned(),
                });
            }
            return Ok(answer["return"].take());
        }
    }

    /// Stops the machine's processors.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn stop(&mut self, deadline: Instant) -> Result<(), QmpError> {
        self.execute("stop", json!({}), deadline).map(drop)
    }

    /// Lets the machine's processors run on.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn cont(&mut self, deadline: Instant) -> Result<(), QmpError> {
        self.execute("cont", json!({}), deadline).map(drop)
    }

    /// Ends QEMU at once.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn quit(&mut self, deadline: Instant) -> Result<(), QmpError> {
        self.execute("quit", json!({}), deadline).map(drop)
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn system_powerdown(&mut self, deadline: Instant) -> Result<(), QmpError> {
        self.execute("system_powerdown", json!({}), deadline)
            .map(drop)
    }

    /// Whether the machine runs.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn query_status(&mut self, deadline: Instant) -> Result<RunState, QmpError> {
        let answer = self.execute("query-status", json!({}), deadline)?;
        serde_json::from_value(answer).map_err(|error| QmpError::Malformed(error.to_string()))
    }

    /// Drops the kept events of this name, so that the next one is one to come.
    pub fn forget(&mut self, name: &str) {
        self.events.retain(|event| event.name != name);
    }

    /// The next event of this name, one that is kept or one to come; others stay kept.
    ///
    /// # Errors
    /// Where none comes before the deadline.
    pub fn wait_event(&mut self, name: &str, deadline: Instant) -> Result<QmpEvent, QmpError> {
        loop {
            let kept = self.events.iter().position(|event| event.name == name);
            if let Some(event) = kept.and_then(|index| self.events.remove(index)) {
                return Ok(event);
            }
            self.message(&format!("the event {name}"), deadline)?;
        }
    }

    /// Reads one message; an event is also kept.
    fn message(&mut self, awaited: &str, deadline: Instant) -> Result<Value, QmpError> {
        let line = self.lines.next(deadline).map_err(|source| QmpError::Read {
            awaited: awaited.to_owned(),
            source,
        })?;
        let message: Value = serde_json::from_slice(&line).map_err(|_| malformed(&line))?;
        if message.get("event").is_some() {
            let event = serde_json::from_value(message.clone()).map_err(|_| malformed(&line))?;
            if self.events.len() == EVENTS_MAX {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
        Ok(message)
    }
}

impl Version {
    fn words(&self) -> String {
        let Numbers {
            major,
            minor,
            micro,
        } = self.qemu;
        match self.package.trim() {
            "" => format!("{major}.{minor}.{micro}"),
            package => format!("{major}.{minor}.{micro} ({package})"),
        }
    }
}

fn malformed(line: &[u8]) -> QmpError {
    let text = String::from_utf8_lossy(line);
    QmpError::Malformed(text.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::thread::{self, JoinHandle};

    use super::*;

    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "Debian 1:10"}, "capabilities": ["oob"]}}"#;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    /// A monitor that greets, and answers the n-th command with the n-th text.
    fn monitor(answers: &'static [&'static str]) -> (UnixStream, JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || {
            let mut commands = BufReader::new(theirs.try_clone().unwrap());
            writeln!(&theirs, "{GREETING}").unwrap();
            for answer in [r#"{"return": {}, "id": 1}"#].iter().chain(answers) {
                commands.read_line(&mut String::new()).unwrap();
                writeln!(&theirs, "{answer}").unwrap();
            }
        });
        (ours, thread)
    }

    #[test]
    fn events_and_late_answers_do_not_take_an_answer_s_place() {
        let (stream, thread) = monitor(&[concat!(
            r#"{"timestamp": {"seconds": 1, "microseconds": 5}, "event": "RESUME"}"#,
            "\n",
            r#"{"return": {"status": "late", "running": false}, "id": 1}"#,
            "\n",
            r#"{"return": {"status": "running", "running": true}, "id": 2}"#,
        )]);
        let mut qmp = Qmp::connect(stream, soon()).unwrap();
        assert_eq!(qmp.version(), "10.0.2 (Debian 1:10)");
        assert!(qmp.query_status(soon()).unwrap().running);
        let event = qmp.wait_event("RESUME", soon()).unwrap();
        assert_eq!(event.timestamp.utc(), Some(Utc(1_000_005_000)));
        thread.join().unwrap();
    }

    #[test]
    fn a_refusal_names_the_command_and_qemu_s_reason() {
        let (stream, _thread) =
            monitor(&[r#"{"id": 2, "error": {"class": "GenericError", "desc": "no such thing"}}"#]);
        let mut qmp = Qmp::connect(stream, soon()).unwrap();
        let error = qmp.stop(soon()).unwrap_err().to_string();
        assert_eq!(error, "QEMU refused `stop`: no such thing");
    }

    #[test]
    fn a_server_that_is_no_monitor_or_says_nothing_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        writeln!(&theirs, "220 mail ready").unwrap();
        let error = Qmp::connect(ours, soon()).unwrap_err();
        assert!(matches!(error, QmpError::Malformed(_)), "{error}");

        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = Qmp::connect(ours, Instant::now() + Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("greeting"), "{error}");
    }
}
