//! The programs that PID 1 starts, and all children that it reaps. What is to be done with each is
//! decided by [`supervisor`]; here it is carried out.

pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod filter;
pub mod inputs;
pub mod notify;
pub mod output;
pub mod relay;
pub mod spawn;
pub mod supervisor;

use std::os::fd::AsFd as _;

use cgroup::{CgroupError, Group, Hierarchy};
use inputs::Inputs;
use noonmark_contract::config::network::NET_SERVICE;
use noonmark_contract::config::{Output, Service};
use noonmark_contract::record::{Event, ServiceStatus};
use noonmark_contract::units::{Nanos, Raw};
use notify::{Datagram, NotifySockets};
use relay::Relays;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, wait,
};
use spawn::Spawner;
use supervisor::{Action, Clock, Exit, Id, Supervisor};

/// How many children one wake reaps at most, so that a fork bomb can't hold the loop.
const REAP_BATCH: usize = 64;

/// Of how many services one status record renews what they use: each costs some system calls.
const USAGE_BATCH: usize = 8;

/// The configured services, and what each is doing.
#[derive(Debug)]
pub struct Services {
    supervisor: Supervisor,
    spawner: Option<Spawner>,
    hierarchy: Option<Hierarchy>,
    resources: Vec<Resources>,
    /// Output's ways to virtio-serial ports.
    pub relays: Relays,
    /// What PID 1's own helpers are started with.
    pub inputs: Inputs,
    /// Services' way to say how they are doing; none where there is no place for it.
    pub notify: Option<NotifySockets>,
    actions: Vec<Action>,
    next_usage: usize,
}

/// A service's group and what was last seen of it.
#[derive(Debug, Default)]
struct Resources {
    group: Option<Group>,
    memory_kib: Option<u64>,
    oom_kills: u64,
    tasks_refused: u64,
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
    /// None of them started yet, and nothing set up for them.
    #[must_use]
    pub fn new(configured: Vec<Service>, now: Raw) -> Self {
        let resources = configured.iter().map(|_| Resources::default()).collect();
        Self {
            supervisor: Supervisor::new(configured, now),
            spawner: None,
            hierarchy: None,
            resources,
            relays: Relays::default(),
            inputs: Inputs::default(),
            notify: None,
            actions: Vec::new(),
            next_usage: 0,
        }
    }

    /// Gets ready to start them; from then on [`Services::turn`] does so. What can't be set up is
    /// reported, and they run without it.
    pub fn open(&mut self, events: &mut Vec<Event>) {
        if self.supervisor.count() == 0 {
            return;
        }
        match Spawner::new() {
            Ok(spawner) => self.spawner = Some(spawner),
            Err(errno) => events.push(failure(format!("no service can be started: {errno}"))),
        }
        match Hierarchy::open() {
            Ok((hierarchy, problems)) => {
                self.hierarchy = Some(hierarchy);
                push_problems(problems, events);
            }
            Err(error) => push_problems(vec![error], events),
        }
    }

    /// Takes in what the clock is like; freezes and thaws accordingly.
    pub fn set_clock(&mut self, clock: Clock, now: Raw, events: &mut Vec<Event>) {
        self.supervisor.set_clock(clock, now, &mut self.actions);
        self.carry_out(now, events);
    }

    /// Lets services stand still for a snapshot, or go on.
    pub fn hold(&mut self, held: bool, now: Raw, events: &mut Vec<Event>) {
        self.supervisor.hold(held, now, &mut self.actions);
        self.carry_out(now, events);
    }

    /// Whether all that is to stand still does so.
    #[must_use]
    pub fn stand_still(&self) -> bool {
        let is_still = |id: Id| {
            let group = self.resources[id.0].group.as_ref();
            group.is_some_and(Group::is_frozen)
        };
        self.supervisor.frozen().all(is_still)
    }

    /// Says whether there is what this service is for; without it, it is not started.
    pub fn set_absent(&mut self, name: &str, absent: bool) {
        if let Some(id) = self.named(name) {
            self.supervisor.set_absent(id, absent);
        }
    }

    /// Whether there is a service of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    /// Has the network's program ask for its leases anew: the machine may be a copy of another.
    pub fn renew_leases(&self) {
        if let Some(id) = self.named(NET_SERVICE) {
            self.signal(id, Signal::HUP);
        }
    }

    fn named(&self, name: &str) -> Option<Id> {
        let mut ids = (0..self.supervisor.count()).map(Id);
        ids.find(|&id| self.supervisor.service(id).name == name)
    }

    /// Does what is due. At most one service is started.
    pub fn turn(&mut self, now: Raw, events: &mut Vec<Event>) {
        if self.spawner.is_none() {
            return;
        }
        self.relays.due(now);
        self.supervisor.due(now, &mut self.actions);
        self.carry_out(now, events);
    }

    /// When [`Services::turn`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Raw> {
        self.spawner.as_ref()?;
        let notify = self.notify.as_ref().and_then(NotifySockets::deadline);
        let deadlines = [self.supervisor.wake_at(), self.relays.deadline(), notify];
        deadlines.into_iter().flatten().min()
    }

    /// Takes in what services say of themselves, as far as it comes from their own processes.
    pub fn hear(&mut self, now: Raw, events: &mut Vec<Event>) {
        let Some(notify) = &mut self.notify else {
            return;
        };
        let (supervisor, resources) = (&mut self.supervisor, &self.resources);
        let actions = &mut self.actions;
        notify.take(
            now,
            |Datagram {
                 of,
                 sender,
                 message,
             }| {
                let pid = sender.as_raw_nonzero().get().unsigned_abs();
                let group = resources[of.0].group.as_ref();
                let own = supervisor.process(of) == Some(pid)
                    || group.is_some_and(|group| group.has(sender));
                supervisor.hear(of, message.filter(|_| own), now, actions);
            },
        );
        self.carry_out(now, events);
    }

    /// Begins to stop all of them; gives how long that can take.
    pub fn stop(&mut self) -> Nanos {
        self.supervisor.stop()
    }

    /// Whether all of them have stopped, or there is nothing to stop.
    #[must_use]
    pub fn are_down(&self) -> bool {
        self.spawner.is_none() || self.supervisor.is_down()
    }

    /// Whether one of them may make namespaces.
    #[must_use]
    pub fn want_namespaces(&self) -> bool {
        let mut ids = (0..self.supervisor.count()).map(Id);
        ids.any(|id| !self.supervisor.service(id).restrict_namespaces)
    }

    /// The first process of a service that runs.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<Pid> {
        self.process(self.named(name)?)
    }

    /// Collects children that have ended, the services' and orphans; a bounded number at a time.
    pub fn reap(&mut self, now: Raw, events: &mut Vec<Event>) -> Reaped {
        for _ in 0..REAP_BATCH {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status, now, events),
                Ok(None) => return Reaped::All,
                Err(_) => return Reaped::NoChildren,
            }
        }
        Reaped::Some
    }

    /// Each service's part of the status record. What they use is renewed for some of them at a
    /// time, in turn.
    pub fn status(&mut self) -> Vec<ServiceStatus> {
        let count = self.resources.len();
        for _ in 0..count.min(USAGE_BATCH) {
            let place = self.next_usage % count;
            self.next_usage = place + 1;
            let running = self.supervisor.process(Id(place)).is_some();
            let resources = &mut self.resources[place];
            let group = resources.group.as_ref().filter(|_| running);
            resources.memory_kib = group.and_then(Group::memory_kib);
            resources.tasks_refused = group.map_or(resources.tasks_refused, Group::tasks_refused);
        }
        let usage = self.resources.iter().enumerate();
        self.supervisor
            .status()
            .zip(usage)
            .map(|(status, (place, resources))| ServiceStatus {
                memory_kib: status.pid.and(resources.memory_kib),
                oom_kills: resources.oom_kills,
                tasks_refused: resources.tasks_refused,
                output_dropped_bytes: match &self.supervisor.service(Id(place)).output {
                    Output::Port(port) => self.relays.dropped_bytes(port),
                    Output::Console => 0,
                },
                ..status
            })
            .collect()
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus, now: Raw, events: &mut Vec<Event>) {
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        let Some(id) = self.supervisor.of_process(pid) else {
            return;
        };
        let service = self.supervisor.service(id);
        let failure = self
            .spawner
            .as_mut()
            .and_then(|spawner| spawner.failure(pid, service));
        let mut exit = match failure {
            Some(how) => Exit { clean: false, how },
            None => exit_of(status),
        };
        let resources = &mut self.resources[id.0];
        let oom_kills = resources.group.as_ref().map_or(0, Group::oom_kills);
        if oom_kills > resources.oom_kills {
            exit.how += " (its memory was used up)";
        }
        resources.oom_kills = oom_kills;
        self.supervisor.ended(id, exit, now, &mut self.actions);
        self.carry_out(now, events);
    }

    fn carry_out(&mut self, now: Raw, events: &mut Vec<Event>) {
        let mut actions = std::mem::take(&mut self.actions);
        // A start that fails brings another action or two, and no further start.
        while !actions.is_empty() {
            for action in actions.drain(..) {
                self.carry_out_one(action, now, events);
            }
            std::mem::swap(&mut actions, &mut self.actions);
        }
        self.actions = actions;
    }

    fn carry_out_one(&mut self, action: Action, now: Raw, events: &mut Vec<Event>) {
        let outcome = match action {
            Action::Start(id) => {
                self.start(id, now, events);
                Ok(())
            }
            Action::Freeze(id) => self.with_group(id, |group| group.freeze(true)),
            Action::Thaw(id) => self.with_group(id, |group| group.freeze(false)),
            Action::Kill(id) => self.kill(id),
            Action::Terminate(id) => {
                match &self.resources[id.0].group {
                    Some(group) => group.signal(Signal::TERM),
                    None => self.signal(id, Signal::TERM),
                }
                Ok(())
            }
            Action::Signal(id, signal) => {
                if let Some(signal) = Signal::from_named_raw(signal as i32) {
                    self.signal(id, signal);
                }
                Ok(())
            }
            Action::Report(id, what) => {
                let name = self.supervisor.service(id).name.clone();
                events.push(Event::Service { name, what });
                Ok(())
            }
        };
        push_problems(outcome.err().into_iter().collect(), events);
    }

    fn start(&mut self, id: Id, now: Raw, events: &mut Vec<Event>) {
        let service = self.supervisor.service(id);
        let resources = &mut self.resources[id.0];
        if let (None, Some(hierarchy)) = (&resources.group, &self.hierarchy) {
            match hierarchy.group(service) {
                Ok((group, problems)) => {
                    resources.group = Some(group);
                    push_problems(problems, events);
                }
                Err(error) => push_problems(vec![error], events),
            }
        }
        if let (true, Some(notify)) = (service.notifies(), &mut self.notify)
            && let Err(errno) = notify.open(id, service)
        {
            let what = format!("NOTIFY_SOCKET: {errno}");
            let name = service.name.clone();
            events.push(Event::Service { name, what });
        }
        let Some(spawner) = &self.spawner else { return };
        let input = self.inputs.of(&service.name);
        let started = output::open(&service.output, &mut self.relays).and_then(|output| {
            spawner.spawn(service, resources.group.as_ref(), input, output.as_fd())
        });
        if let Output::Port(port) = &service.output
            && !self.relays.has_port(port)
        {
            let what = format!("output: there is no virtio-serial port `{port}` yet");
            let name = service.name.clone();
            events.push(Event::Service { name, what });
        }
        match started {
            Ok(pid) => {
                let pid = pid.as_raw_nonzero().get().unsigned_abs();
                self.supervisor.started(id, pid, now, &mut self.actions);
            }
            Err(how) => {
                let exit = Exit { clean: false, how };
                self.supervisor.ended(id, exit, now, &mut self.actions);
            }
        }
    }

    fn kill(&self, id: Id) -> Result<(), CgroupError> {
        if self.resources[id.0].group.is_some() {
            return self.with_group(id, Group::kill);
        }
        if let Some(pid) = self.process(id) {
            // Its session's first group, as far as that goes without a control group.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        Ok(())
    }

    fn signal(&self, id: Id, signal: Signal) {
        if let Some(pid) = self.process(id) {
            // It may have ended, which its own event tells.
            let _ = kill_process(pid, signal);
        }
    }

    fn process(&self, id: Id) -> Option<Pid> {
        let pid = i32::try_from(self.supervisor.process(id)?).ok()?;
        Pid::from_raw(pid)
    }

    fn with_group(
        &self,
        id: Id,
        act: impl FnOnce(&Group) -> Result<(), CgroupError>,
    ) -> Result<(), CgroupError> {
        self.resources[id.0].group.as_ref().map_or(Ok(()), act)
    }
}

fn exit_of(status: WaitStatus) -> Exit {
    let how = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".into(),
    };
    Exit {
        clean: status.exit_status() == Some(0),
        how,
    }
}

fn failure(what: String) -> Event {
    Event::Failure { what }
}

fn push_problems(problems: Vec<CgroupError>, events: &mut Vec<Event>) {
    events.extend(problems.iter().map(|error| failure(error.to_string())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_lists_every_service_and_reads_a_bounded_number_of_them() {
        let many = (0..200).map(|n| Service::new(n.to_string(), vec!["/x".into()]));
        let mut services = Services::new(many.collect(), Raw(0));
        assert_eq!(services.status().len(), 200);
        assert_eq!(services.next_usage, USAGE_BATCH);
        let mut none = Services::new(Vec::new(), Raw(0));
        assert!(none.status().is_empty());
    }

    #[test]
    fn services_that_nothing_was_set_up_for_are_down_at_once() {
        let mut services = Services::new(vec![Service::new("a", vec!["/x".into()])], Raw(0));
        assert_eq!(services.stop(), Nanos::ZERO);
        assert!(services.are_down());
        assert_eq!(services.deadline(), None);
    }
}
