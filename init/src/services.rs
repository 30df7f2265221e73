//! The programs that PID 1 starts, and all children that it reaps.

use std::fs::OpenOptions;
use std::io;
use std::process::{Command, Stdio};

use noonmark_sync::config::{Capability, Service, Start};
use noonmark_sync::record::Event;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait};
use rustix::thread::CapabilitySet;

use crate::sys;

/// Where services write what they say.
const OUTPUT: &str = "/dev/console";

/// The programs' search path; nothing else of the environment is theirs.
const PATH: &str = "/bin:/sbin:/usr/bin:/usr/sbin";

/// How many children one wake reaps at most, so that a fork bomb can't hold the loop.
const REAP_BATCH: usize = 64;

/// The capabilities that are taken away unless a service asks for them.
const GUARDED: [(Capability, CapabilitySet); 3] = [
    (Capability::SYS_TIME, CapabilitySet::SYS_TIME),
    (Capability::SYS_MODULE, CapabilitySet::SYS_MODULE),
    (Capability::SYS_BOOT, CapabilitySet::SYS_BOOT),
];

/// The configured services, and which run.
#[derive(Debug)]
pub struct Services {
    configured: Vec<Service>,
    running: Vec<(Pid, usize)>,
}

/// What reaping came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// No dead child is left.
    All,
    /// There may be more: come back.
    Some,
    /// There is no child at all.
    NoChildren,
}

impl Services {
    /// None of them started yet.
    #[must_use]
    pub fn new(configured: Vec<Service>) -> Self {
        Self {
            configured,
            running: Vec::new(),
        }
    }

    /// Starts those whose moment has come; what happened to each goes to `events`.
    pub fn start(&mut self, moment: Start, events: &mut Vec<Event>) {
        for (index, service) in self.configured.iter().enumerate() {
            if service.start != moment {
                continue;
            }
            let what = match spawn(service) {
                Ok(pid) => {
                    self.running.push((pid, index));
                    format!("started as process {}", pid.as_raw_nonzero())
                }
                Err(why) => format!("did not start: {why}"),
            };
            events.push(Event::Service {
                name: service.name.clone(),
                what,
            });
        }
    }

    /// Collects children that have ended, the services' and orphans; a bounded number at a time.
    pub fn reap(&mut self, events: &mut Vec<Event>) -> Reaped {
        for _ in 0..REAP_BATCH {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status, events),
                Ok(None) => return Reaped::All,
                Err(_) => return Reaped::NoChildren,
            }
        }
        Reaped::Some
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus, events: &mut Vec<Event>) {
        let Some(place) = self.running.iter().position(|(running, _)| *running == pid) else {
            return;
        };
        let (_, index) = self.running.swap_remove(place);
        let name = self.configured[index].name.clone();
        let what = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exited {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended".into(),
        };
        events.push(Event::Service { name, what });
    }
}

/// Sends a signal to every process but PID 1.
pub fn signal_all(signal: Signal) {
    // kill(2) takes -1 for "everybody that I may signal", which for PID 1 leaves out itself; the
    // group of process 1 is how that is spelled here. ESRCH only says that there is nobody.
    let _ = kill_process_group(Pid::INIT, signal);
}

/// Starts one service; why not, in words.
fn spawn(service: &Service) -> Result<Pid, String> {
    let [program, arguments @ ..] = service.exec.as_slice() else {
        return Err("its `exec` is empty".into());
    };
    let dropped = dropped_capabilities(&service.capabilities);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output());
    let child = sys::spawn(&mut command, dropped).map_err(|error| format!("{program}: {error}"))?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| format!("{program}: no process id"))
}

fn output() -> Stdio {
    let opened: io::Result<_> = OpenOptions::new().write(true).open(OUTPUT);
    opened.map_or_else(|_| Stdio::null(), Stdio::from)
}

fn dropped_capabilities(kept: &[Capability]) -> CapabilitySet {
    let mut dropped = CapabilitySet::empty();
    for (capability, bit) in GUARDED {
        if !kept.contains(&capability) {
            dropped |= bit;
        }
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_keeps_only_the_guarded_capabilities_that_it_names() {
        let all = dropped_capabilities(&[]);
        assert_eq!(
            all,
            CapabilitySet::SYS_TIME | CapabilitySet::SYS_MODULE | CapabilitySet::SYS_BOOT
        );
        let dropped = dropped_capabilities(&[Capability::SYS_TIME]);
        assert_eq!(dropped, CapabilitySet::SYS_MODULE | CapabilitySet::SYS_BOOT);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let ghost = Service::new("ghost", vec!["/nowhere/ghost".into()]);
        assert!(spawn(&ghost).unwrap_err().contains("/nowhere/ghost"));
        let mut events = Vec::new();
        let mut services = Services::new(vec![ghost]);
        services.start(Start::Boot, &mut events);
        assert_eq!(events, []);
        services.start(Start::ClockSynced, &mut events);
        assert_eq!(events.len(), 1);
    }
}
