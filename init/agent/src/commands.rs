//! What becomes of a request.

use noonmark_contract::agent::{Ask, COMMANDS, Found, OBJECT_MAX, Request};
use noonmark_contract::record::Shutdown;
use noonmark_linux::clocks;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::pid1::Pid1;
use crate::reply::{Problem, Reply, line};
use crate::{file_systems, network, system};

/// What a frozen guest does all the same: QEMU's agent has the same list (qga/main.c), but for the two of
/// the clock, which touch no file system here.
const WHILE_FROZEN: [&str; 8] = [
    "guest-ping",
    "guest-info",
    "guest-sync",
    "guest-sync-delimited",
    "guest-fsfreeze-status",
    "guest-fsfreeze-thaw",
    "guest-get-time",
    "guest-set-time",
];

/// The one command that answers nothing when it succeeds.
const SILENT: &str = "guest-shutdown";

/// `GuestAgentInfo`
#[derive(Debug, Serialize)]
struct Info {
    version: &'static str,
    supported_commands: Vec<CommandInfo>,
}

/// `GuestAgentCommandInfo`
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct CommandInfo {
    name: &'static str,
    enabled: bool,
    success_response: bool,
}

/// The commands, and which of them may be carried out.
#[derive(Debug)]
pub struct Commands {
    allowed: Vec<String>,
}

/// A command's arguments, each taken once.
struct Arguments(Map<String, Value>);

impl Arguments {
    fn none(self) -> Result<(), Problem> {
        match self.0.keys().next() {
            Some(name) => Err(Problem::unexpected(name)),
            None => Ok(()),
        }
    }

    fn integer(&mut self, name: &str) -> Result<Option<i64>, Problem> {
        self.0
            .remove(name)
            .map(|value| value.as_i64().ok_or(Problem::wrong_type(name, "integer")))
            .transpose()
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Problem::wrong_type(name, "string")),
        }
    }
}

impl Commands {
    /// Of [`COMMANDS`], those of `allowed` are carried out.
    pub fn new(allowed: Vec<String>) -> Self {
        Self { allowed }
    }

    /// Answers one thing that the host said; empty where there is nothing to be said.
    pub fn answer(&self, found: Found, pid1: &mut Pid1) -> Vec<u8> {
        let problem = match found {
            Found::Object(bytes) => match Request::parse(&bytes) {
                Ok(Request {
                    command,
                    arguments,
                    id,
                }) => return line(self.run(&command, Arguments(arguments), pid1), id),
                Err(error) => error.to_string(),
            },
            Found::Stray => "JSON parse error, expected an object".to_owned(),
            Found::TooLong => {
                format!("JSON parse error, the object is longer than {OBJECT_MAX} bytes")
            }
        };
        line(Err(Problem::new(problem)), None)
    }

    fn run(&self, name: &str, mut arguments: Arguments, pid1: &mut Pid1) -> Result<Reply, Problem> {
        let command = self.enabled(name, pid1.is_frozen())?;
        match command {
            "guest-sync" | "guest-sync-delimited" => {
                let id = arguments.integer("id")?.ok_or(Problem::missing("id"))?;
                arguments.none()?;
                Ok(match command {
                    "guest-sync" => Reply::Value(json!(id)),
                    _ => Reply::Delimited(json!(id)),
                })
            }
            "guest-set-time" => {
                // What it says is as old as its way here was long, which nobody knows; PID 1 has better.
                arguments.integer("time")?;
                arguments.none()?;
                pid1.ask(Ask::Verify).map_err(Problem::new)?;
                Ok(Reply::done())
            }
            SILENT => {
                let mode = arguments.text("mode")?;
                arguments.none()?;
                let how = match mode.as_deref() {
                    None | Some("powerdown") => Shutdown::Poweroff,
                    Some("reboot") => Shutdown::Reboot,
                    Some("halt") => Shutdown::Halt,
                    Some(_) => {
                        let valid = "mode is invalid (valid values are: halt|powerdown|reboot)";
                        return Err(Problem::new(valid));
                    }
                };
                pid1.ask(Ask::Shutdown(how)).map_err(Problem::new)?;
                Ok(Reply::Silence)
            }
            _ => {
                arguments.none()?;
                self.run_plain(command, pid1)
            }
        }
    }

    /// Those without arguments.
    fn run_plain(&self, command: &str, pid1: &mut Pid1) -> Result<Reply, Problem> {
        let value = match command {
            "guest-ping" => return Ok(Reply::done()),
            "guest-info" => return Reply::of(&self.info(pid1.is_frozen())),
            "guest-get-time" => json!(clocks::realtime().0),
            "guest-get-host-name" => json!({ "host-name": system::host_name() }),
            "guest-get-timezone" => json!({ "zone": "UTC", "offset": 0 }),
            "guest-fsfreeze-status" => json!(if pid1.is_frozen() { "frozen" } else { "thawed" }),
            "guest-fsfreeze-freeze" => json!(pid1.ask(Ask::Freeze).map_err(Problem::new)?),
            "guest-fsfreeze-thaw" => json!(pid1.ask(Ask::Thaw).map_err(Problem::new)?),
            "guest-get-osinfo" => return Reply::of(&system::os_info()),
            "guest-get-vcpus" => return Reply::of(&system::vcpus()),
            "guest-get-fsinfo" => return Reply::of(&file_systems::list()?),
            "guest-network-get-interfaces" => return Reply::of(&network::interfaces()?),
            other => return Err(Problem::unknown(other)),
        };
        Ok(Reply::Value(value))
    }

    /// The command of this name, if it may be carried out now.
    fn enabled(&self, name: &str, frozen: bool) -> Result<&'static str, Problem> {
        let known = COMMANDS.into_iter().find(|&known| known == name);
        let command = known.ok_or_else(|| Problem::unknown(name))?;
        if !self.is_allowed(command) {
            return Err(Problem::disabled(command, ""));
        }
        if frozen && !WHILE_FROZEN.contains(&command) {
            let why = "the agent is in frozen state";
            return Err(Problem::disabled(command, why));
        }
        Ok(command)
    }

    fn is_allowed(&self, command: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == command)
    }

    fn info(&self, frozen: bool) -> Info {
        let info = |name: &'static str| CommandInfo {
            name,
            enabled: self.enabled(name, frozen).is_ok(),
            success_response: name != SILENT,
        };
        Info {
            version: env!("CARGO_PKG_VERSION"),
            supported_commands: COMMANDS.into_iter().map(info).collect(),
        }
    }
}
