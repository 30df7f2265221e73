//! `[[service]]`: a program that PID 1 starts, supervises and reaps.
//!
//! One definition for `guest.toml`, the boot configuration and a seed: each value's type admits
//! only what is valid, and what several keys have to fulfil together is in [`Service::check`].

mod values;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use values::{freeze, is_directory, is_freeze, is_name};

use super::capability::Capability;

pub use values::{ByteSize, OnDisruption, Output, Ready, ServiceSignal};

/// A program and how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name in logs and records: 1 to 64 letters, digits and `-_.@`.
    pub name: String,
    /// Absolute path of the program, then its arguments.
    pub exec: Vec<String>,
    /// Its environment, beside `PATH`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder that it starts in, absolute.
    #[serde(default = "root_folder")]
    pub cwd: String,
    /// The user that it runs as; one of its own where it is left out ([`super::assign_users`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// The group that it runs as; the user's number where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// When it is started.
    #[serde(default)]
    pub start: Start,
    /// What it takes for it to count as ready.
    #[serde(default)]
    pub ready: Ready,
    /// How many seconds it may take to be ready, 1 to 86400; then it is killed.
    #[serde(default = "default_ready_timeout_s")]
    pub ready_timeout_s: u32,
    /// Within how many seconds it has to say `WATCHDOG=1` again, 1 to 86400, as systemd's
    /// `WatchdogSec=`; else it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_s: Option<u32>,
    /// The service that must be ready before this one starts, where it says when it is, or else must
    /// have ended; one that has ended for good, however that was, is waited for no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many seconds after PID 1's start it waits for the clock, 1 to 86400; for as long as it
    /// takes where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout_s: Option<u32>,
    /// What happens when that time is over.
    #[serde(default)]
    pub on_start_timeout: OnStartTimeout,
    /// Whether it is started again when it ends.
    #[serde(default)]
    pub restart: Restart,
    /// How many seconds it may take to end after SIGTERM, 0 to 600; then it is killed.
    #[serde(default = "default_stop_timeout_s")]
    pub stop_timeout_s: u32,
    /// What is done to it when the clock was disturbed.
    #[serde(default)]
    pub on_disruption: OnDisruption,
    /// What is done to it while the guest is frozen for a snapshot; a signal comes at the freeze's
    /// beginning, and it runs on.
    #[serde(default = "freeze", skip_serializing_if = "is_freeze")]
    pub on_freeze: OnDisruption,
    /// Capabilities that it keeps beside the usual ones; the only ones where `user` is not 0.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Whether it has a `/dev` of its own without the machine's devices, as systemd's
    /// `PrivateDevices=`.
    #[serde(default = "yes")]
    pub private_devices: bool,
    /// Which system calls it is refused.
    #[serde(default)]
    pub system_call_filter: SystemCallFilter,
    /// Whether it is refused namespaces of its own, as by systemd's `RestrictNamespaces=yes`. Where a
    /// service of the image isn't, the kernel has user namespaces.
    #[serde(default = "yes")]
    pub restrict_namespaces: bool,
    /// Whether nothing that it executes can gain it rights, as systemd's `NoNewPrivileges=`.
    #[serde(default = "yes")]
    pub no_new_privileges: bool,
    /// A folder of its user's below [`super::RUNTIME`], as systemd's `RuntimeDirectory=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_directory: Option<String>,
    /// A folder of its user's below [`super::STATE`], on a data disk, as systemd's `StateDirectory=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_directory: Option<String>,
    /// The memory that it and its children may use together, as systemd's `MemoryMax=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<ByteSize>,
    /// Its share of the processors when they are busy, 1 to 10000; 100 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// How many processes and threads it may have, 1 to 4194304.
    #[serde(default = "default_tasks_max")]
    pub tasks_max: u32,
    /// Where its output and error output go.
    #[serde(default)]
    pub output: Output,
}

/// The moment from which a service may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// As soon as the modules are in.
    Boot,
    /// Once the clock is right.
    #[default]
    ClockSynced,
}

/// What is done when the clock is not right in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStartTimeout {
    /// The service fails, and is not started later either.
    #[default]
    Fail,
    /// It is started with the clock as it is.
    Start,
}

/// Whether a service is started again when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it exited with something else than 0, was killed, or could not be started.
    OnFailure,
    /// However it ended.
    Always,
}

/// Which system calls a service is refused, as systemd's `SystemCallFilter=` with a deny list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemCallFilter {
    /// Those that act on the machine or on PID 1, unless one of its capabilities is for them.
    #[default]
    Default,
    /// None.
    None,
}

/// A service that can't be run; [`fmt::Display`] is the problem without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    /// The key that is wrong, e.g. `exec`.
    pub key: &'static str,
    /// What was expected.
    pub problem: String,
}

/// The longest text of a name, an argument or a variable.
const TEXT_MAX: usize = 4096;

/// How many arguments and variables there may be.
const WORDS_MAX: usize = 256;

/// Who a service is that has been given no user: nobody.
const NOBODY: u32 = 65_534;

impl Service {
    /// A service with nothing but the defaults.
    #[must_use]
    pub fn new(name: impl Into<String>, exec: Vec<String>) -> Self {
        Self {
            name: name.into(),
            exec,
            env: BTreeMap::new(),
            cwd: root_folder(),
            user: None,
            group: None,
            start: Start::default(),
            ready: Ready::default(),
            ready_timeout_s: default_ready_timeout_s(),
            watchdog_s: None,
            after: None,
            start_timeout_s: None,
            on_start_timeout: OnStartTimeout::default(),
            restart: Restart::default(),
            stop_timeout_s: default_stop_timeout_s(),
            on_disruption: OnDisruption::default(),
            on_freeze: freeze(),
            capabilities: Vec::new(),
            private_devices: true,
            system_call_filter: SystemCallFilter::default(),
            restrict_namespaces: true,
            no_new_privileges: true,
            runtime_directory: None,
            state_directory: None,
            memory_max: None,
            cpu_weight: None,
            tasks_max: default_tasks_max(),
            output: Output::default(),
        }
    }

    /// Checks what the types alone don't say.
    ///
    /// # Errors
    /// The first key that is wrong, and why.
    pub fn check(&self) -> Result<(), ServiceError> {
        let bad = |key, problem: &str| {
            Err(ServiceError {
                key,
                problem: problem.into(),
            })
        };
        if !is_name(&self.name) {
            return bad("name", "expected 1 to 64 letters, digits and `-_.@`");
        }
        if !self.exec.first().is_some_and(|path| path.starts_with('/')) {
            return bad(
                "exec",
                "expected the program's absolute path, then its arguments",
            );
        }
        if self.exec.len() > WORDS_MAX || !self.exec.iter().all(|word| is_text(word)) {
            return bad(
                "exec",
                "expected at most 256 words, each of at most 4096 bytes and without a NUL byte",
            );
        }
        if !self.cwd.starts_with('/') || !is_text(&self.cwd) {
            return bad("cwd", "expected an absolute path without a NUL byte");
        }
        let is_variable = |(name, value): (&String, &String)| {
            !name.is_empty() && !name.contains('=') && is_text(name) && is_text(value)
        };
        if self.env.len() > WORDS_MAX || !self.env.iter().all(is_variable) {
            return bad(
                "env",
                "expected at most 256 variables, their names without `=`, no NUL byte, at most \
                 4096 bytes each",
            );
        }
        let directories = [
            ("runtime_directory", &self.runtime_directory),
            ("state_directory", &self.state_directory),
        ];
        for (key, directory) in directories {
            if directory.as_deref().is_some_and(|name| !is_directory(name)) {
                let expected = "expected a folder's name: 1 to 64 letters, digits and `-_.@`, the first \
                                no dot, and not beginning as noonmark's own";
                return bad(key, expected);
            }
        }
        if !self.no_new_privileges && self.system_call_filter != SystemCallFilter::None {
            return bad(
                "no_new_privileges",
                "the kernel gives a filter only to who can gain nothing by it: false needs \
                 `system_call_filter = \"none\"`",
            );
        }
        self.check_numbers()
    }

    /// Whether what it waits for is one of those before it, so that no two can wait for each other.
    ///
    /// # Errors
    /// If there is no such service before it.
    pub fn check_after<'a>(
        &self,
        mut before: impl Iterator<Item = &'a str>,
    ) -> Result<(), ServiceError> {
        match &self.after {
            Some(after) if !before.any(|name| name == after) => Err(ServiceError {
                key: "after",
                problem: format!(
                    "`{}`: expected a service that stands before it",
                    after.escape_debug()
                ),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn check_numbers(&self) -> Result<(), ServiceError> {
        let timeout_s = self.start_timeout_s.unwrap_or(1);
        let weight = self.cpu_weight.unwrap_or(1);
        for (key, number, least, most) in [
            ("user", self.user.unwrap_or(0), 0, u32::MAX - 1),
            ("group", self.group.unwrap_or(0), 0, u32::MAX - 1),
            ("start_timeout_s", timeout_s, 1, 86_400),
            ("stop_timeout_s", self.stop_timeout_s, 0, 600),
            ("ready_timeout_s", self.ready_timeout_s, 1, 86_400),
            ("watchdog_s", self.watchdog_s.unwrap_or(1), 1, 86_400),
            ("cpu_weight", weight, 1, 10_000),
            ("tasks_max", self.tasks_max, 1, 4_194_304),
        ] {
            if !(least..=most).contains(&number) {
                return Err(ServiceError {
                    key,
                    problem: format!("{number}: expected {least} to {most}"),
                });
            }
        }
        Ok(())
    }

    /// The user that it runs as; nobody, which has no rights, where it has been given none.
    #[must_use]
    pub fn user_id(&self) -> u32 {
        self.user.unwrap_or(NOBODY)
    }

    /// Whether it has a way to say how it is doing.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.ready == Ready::Notify || self.watchdog_s.is_some()
    }

    /// The group that it runs as.
    #[must_use]
    pub fn group_id(&self) -> u32 {
        self.group.unwrap_or(self.user_id())
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl core::error::Error for ServiceError {}

fn root_folder() -> String {
    "/".into()
}

fn yes() -> bool {
    true
}

fn default_stop_timeout_s() -> u32 {
    10
}

/// As systemd's `DefaultTimeoutStartSec=`.
fn default_ready_timeout_s() -> u32 {
    90
}

/// Enough for any honest program, and far from what a machine has.
fn default_tasks_max() -> u32 {
    1024
}

fn is_text(text: &str) -> bool {
    text.len() <= TEXT_MAX && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn parse(rest: &str) -> Result<Service, String> {
        let json = format!("{{\"name\":\"a\",\"exec\":[\"/a\"]{rest}}}");
        serde_json::from_str::<Service>(&json)
            .map_err(|error| error.to_string())
            .and_then(|service| {
                let checked = service.check();
                checked.map_err(|error| format!("{}: {error}", error.key))?;
                Ok(service)
            })
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        let service = parse("").unwrap();
        assert_eq!(service, Service::new("a", vec!["/a".into()]));
        assert_eq!(service.start, Start::ClockSynced);
        assert_eq!((service.user_id(), service.group_id()), (NOBODY, NOBODY));
        assert_eq!(parse(",\"user\":7").unwrap().group_id(), 7);
    }

    #[test]
    fn a_size_is_written_as_systemd_does() {
        for (text, bytes) in [
            ("\"64M\"", 64 << 20),
            ("\"1G\"", 1 << 30),
            ("\"512K\"", 512 << 10),
            ("\"4096\"", 4096),
            ("4096", 4096),
        ] {
            let service = parse(&format!(",\"memory_max\":{text}")).unwrap();
            assert_eq!(service.memory_max.map(ByteSize::bytes), Some(bytes));
        }
        for text in [
            "\"64m\"",
            "\"\"",
            "\"M\"",
            "\"-1M\"",
            "\"+1\"",
            "0",
            "\"99999999999G\"",
        ] {
            let error = parse(&format!(",\"memory_max\":{text}")).unwrap_err();
            assert!(error.contains("expected a size like"), "{text}: {error}");
        }
    }

    #[test]
    fn each_wrong_key_is_named() {
        for (rest, key) in [
            (",\"cwd\":\"tmp\"", "cwd"),
            (",\"env\":{\"A=B\":\"c\"}", "env"),
            (",\"env\":{\"A\":\"c\\u0000\"}", "env"),
            (",\"start_timeout_s\":0", "start_timeout_s"),
            (",\"stop_timeout_s\":601", "stop_timeout_s"),
            (",\"cpu_weight\":0", "cpu_weight"),
            (",\"tasks_max\":0", "tasks_max"),
            (",\"ready\":\"forking\"", "forking"),
            (",\"ready_timeout_s\":0", "ready_timeout_s"),
            (",\"watchdog_s\":0", "watchdog_s"),
            (",\"user\":4294967295", "user"),
            (",\"capabilities\":[\"CAP_X\"]", "CAP_X"),
            (",\"system_call_filter\":\"all\"", "all"),
            (",\"no_new_privileges\":false", "no_new_privileges"),
            (",\"runtime_directory\":\"..\"", "runtime_directory"),
            (",\"runtime_directory\":\"noonmark\"", "runtime_directory"),
            (",\"state_directory\":\"a/b\"", "state_directory"),
            (",\"memory\":1", "memory"),
        ] {
            let error = parse(rest).unwrap_err();
            assert!(error.contains(key), "{rest}: {error}");
        }
    }
}
