//! What is to be done with each service, sans I/O: what happened and the time go in, actions come
//! out. It starts no process and reads no clock.

mod entry;
mod health;
mod standstill;

use entry::{Entry, Phase};
use health::Health;
use noonmark_contract::config::{
    OnDisruption, OnStartTimeout, Restart, Service, ServiceSignal, Start,
};
use noonmark_contract::record::ServiceStatus;
use noonmark_contract::units::{Nanos, Raw};

use super::notify::message::Message;

/// How long after its end a service is started again: at first, and at most. Each end in a row
/// doubles it.
const BACKOFF_FIRST: Nanos = Nanos::from_millis(100);
const BACKOFF_LONGEST: Nanos = Nanos::from_secs(30);

/// A run of this length ends the row.
const STABLE: Nanos = Nanos::from_secs(10);

/// How long what was killed may take to be gone. What is not gone then hangs in the kernel.
const KILL_GRACE: Nanos = Nanos::from_secs(1);

/// A service, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub usize);

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Start it, and answer with [`Supervisor::started`] or [`Supervisor::ended`]. There is at most
    /// one of these at a time, so that no number of services keeps the clock waiting.
    Start(Id),
    /// Let all its processes stand still.
    Freeze(Id),
    /// Let them go on.
    Thaw(Id),
    /// Send its first process a signal.
    Signal(Id, ServiceSignal),
    /// Ask all its processes to end.
    Terminate(Id),
    /// Kill all its processes.
    Kill(Id),
    /// Report this of it.
    Report(Id, String),
}

/// The clock, as far as services care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// It was right once.
    pub synced: bool,
    /// It is wrong at present, or there is reason to think so.
    pub doubtful: bool,
    /// How often it was put right since.
    pub repairs: u64,
}

/// How a process ended, or why it could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// It exited with 0.
    pub clean: bool,
    /// E.g. `exited 1`.
    pub how: String,
}

/// All services and what each is doing.
#[derive(Debug)]
pub struct Supervisor {
    entries: Vec<Entry>,
    clock: Clock,
    began: Raw,
    /// Whether the guest is frozen for a snapshot.
    held: bool,
    /// Services that are not to be started, for want of what they are for.
    absent: Vec<Id>,
    /// The first place that is not to be stopped any more: going down, it falls to 0.
    stopping: Option<usize>,
}

impl Supervisor {
    /// None of them started yet; times to wait count from `now`.
    #[must_use]
    pub fn new(services: Vec<Service>, now: Raw) -> Self {
        let names: Vec<String> = services.iter().map(|s| s.name.clone()).collect();
        let place = |name: &String| names.iter().position(|other| other == name);
        let entry = |service: Service| Entry {
            after: service.after.as_ref().and_then(place),
            service,
            phase: Phase::Waiting,
            health: Health::default(),
            notifications_refused: 0,
            row: 0,
            restarts: 0,
            last_exit: None,
        };
        Self {
            entries: services.into_iter().map(entry).collect(),
            clock: Clock::default(),
            began: now,
            held: false,
            absent: Vec::new(),
            stopping: None,
        }
    }

    /// A service's configuration.
    #[must_use]
    pub fn service(&self, id: Id) -> &Service {
        &self.entries[id.0].service
    }

    /// How many services there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The service whose first process this is.
    #[must_use]
    pub fn of_process(&self, pid: u32) -> Option<Id> {
        let is = |entry: &Entry| entry.phase.pid() == Some(pid);
        self.entries.iter().position(is).map(Id)
    }

    /// A service's first process, while it runs.
    #[must_use]
    pub fn process(&self, id: Id) -> Option<u32> {
        self.entries[id.0].phase.pid()
    }

    /// Each service's part of the status record, without what its processes use.
    pub fn status(&self) -> impl Iterator<Item = ServiceStatus> {
        self.entries.iter().map(|entry| ServiceStatus {
            name: entry.service.name.clone(),
            state: entry.state(),
            pid: entry.phase.pid(),
            restarts: entry.restarts,
            last_exit: entry.last_exit.clone(),
            status_text: entry.health.status.clone(),
            notifications_refused: entry.notifications_refused,
            memory_kib: None,
            oom_kills: 0,
            tasks_refused: 0,
            output_dropped_bytes: 0,
        })
    }

    /// Does what is due at `now`: at most one start, and whatever a deadline demands.
    pub fn due(&mut self, now: Raw, actions: &mut Vec<Action>) {
        if self.stopping.is_some() {
            self.go_on_stopping(now, actions);
            return;
        }
        self.end_overdue(now, actions);
        let starting = self.entries.iter().any(|e| e.phase == Phase::Starting);
        let mut may_start = !starting;
        for place in 0..self.entries.len() {
            if self.is_ready(place, now, actions) && may_start {
                may_start = false;
                self.entries[place].phase = Phase::Starting;
                actions.push(Action::Start(Id(place)));
            }
        }
    }

    /// Whether a service is to be started now. One that has waited too long fails here.
    fn is_ready(&mut self, place: usize, now: Raw, actions: &mut Vec<Action>) -> bool {
        let Some(until) = self.waits_until(place) else {
            return false;
        };
        if until <= now {
            let entry = &mut self.entries[place];
            let late = entry.phase == Phase::Waiting && !self.clock.synced;
            let gated = entry.service.start == Start::ClockSynced;
            if late && gated && entry.service.on_start_timeout == OnStartTimeout::Fail {
                let timeout_s = entry.service.start_timeout_s.unwrap_or_default();
                let why = format!("not started: the clock was not right within {timeout_s} s");
                entry.phase = Phase::Failed;
                entry.last_exit = Some(why.clone());
                actions.push(Action::Report(Id(place), why));
                return false;
            }
            return true;
        }
        false
    }

    /// When a service that does not run is to be started; none where that depends on the clock
    /// alone, or it is not to be.
    fn waits_until(&self, place: usize) -> Option<Raw> {
        let Entry {
            service,
            phase,
            after,
            ..
        } = &self.entries[place];
        let held = self.held && service.on_freeze == OnDisruption::Freeze;
        if held || self.absent.contains(&Id(place)) {
            return None;
        }
        let first = after.map(|at| &self.entries[at]);
        if *phase == Phase::Waiting && first.is_some_and(|first| !first.lets_others_start()) {
            return None;
        }
        let right = self.clock.synced && !self.clock.doubtful;
        let gated = service.start == Start::ClockSynced && !right;
        match phase {
            Phase::Waiting if !gated => Some(self.began),
            // A clock that was right and is not is about to be: that is waited for.
            Phase::Waiting if self.clock.synced => None,
            Phase::Waiting => {
                let timeout_s = service.start_timeout_s?;
                Some(self.began + Nanos::from_secs(timeout_s.into()))
            }
            Phase::Backoff { .. } if gated && self.clock.doubtful => None,
            Phase::Backoff { until } => Some(*until),
            _ => None,
        }
    }

    /// Kills what has not said in time what is expected of it; never while the clock is in doubt, or the
    /// guest is frozen.
    fn end_overdue(&mut self, now: Raw, actions: &mut Vec<Action>) {
        if self.clock.doubtful || self.held {
            return;
        }
        for (place, entry) in self.entries.iter_mut().enumerate() {
            if matches!(entry.phase, Phase::Running { .. })
                && let Some(what) = entry.health.fail(&entry.service, now)
            {
                actions.push(Action::Report(Id(place), format!("{what}: killed")));
                actions.push(Action::Kill(Id(place)));
            }
        }
    }

    /// One of its processes says this of it; none is a datagram that doesn't count.
    pub fn hear(&mut self, id: Id, said: Option<Message>, now: Raw, actions: &mut Vec<Action>) {
        let entry = &mut self.entries[id.0];
        match said {
            None => entry.notifications_refused += 1,
            Some(message) => {
                if let Some(news) = entry.health.hear(message, &entry.service, now) {
                    actions.push(Action::Report(id, news.into()));
                }
            }
        }
    }

    /// It runs, as this process.
    pub fn started(&mut self, id: Id, pid: u32, now: Raw, actions: &mut Vec<Action>) {
        let entry = &mut self.entries[id.0];
        entry.health = Health::new(&entry.service, now);
        entry.phase = Phase::Running {
            pid,
            since: now,
            frozen: false,
        };
        actions.push(Action::Report(id, format!("started as process {pid}")));
    }

    /// It ended, or could not be started.
    pub fn ended(&mut self, id: Id, mut exit: Exit, now: Raw, actions: &mut Vec<Action>) {
        let stopping = self.stopping.is_some();
        let entry = &mut self.entries[id.0];
        if entry.phase.pid().is_some()
            && let Some(fault) = entry.health.fault()
        {
            exit.clean = false;
            exit.how = format!("{} ({fault})", exit.how);
        }
        let long = matches!(entry.phase, Phase::Running { since, .. } if now - since >= STABLE);
        entry.row = if long { 0 } else { entry.row };
        let was_stopped = matches!(entry.phase, Phase::Ending { .. });
        // Whatever it left behind goes with it, as it would with any supervisor.
        actions.push(Action::Kill(id));
        let again = match entry.service.restart {
            Restart::No => false,
            Restart::OnFailure => !exit.clean,
            Restart::Always => true,
        };
        let mut what = exit.how.clone();
        entry.phase = if again && !stopping {
            let delay = backoff(entry.row);
            entry.row += 1;
            entry.restarts += 1;
            what = format!("{what}; started again in {delay}");
            Phase::Backoff { until: now + delay }
        } else if exit.clean || was_stopped {
            Phase::Stopped
        } else {
            Phase::Failed
        };
        entry.last_exit = Some(exit.how);
        actions.push(Action::Report(id, what));
    }

    /// Begins to stop all of them, in the reverse of the configuration's order, one after the other.
    /// Gives how long that can take: the grace of each that runs, and what it takes to kill it.
    pub fn stop(&mut self) -> Nanos {
        if self.stopping.is_none() {
            self.stopping = Some(self.entries.len());
        }
        let running = self.entries.iter().filter(|e| e.phase.pid().is_some());
        running.fold(Nanos::ZERO, |sum, entry| {
            sum + Nanos::from_secs(entry.service.stop_timeout_s.into()) + KILL_GRACE
        })
    }

    /// Whether all that was asked to stop has done so.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.stopping == Some(0)
    }

    fn go_on_stopping(&mut self, now: Raw, actions: &mut Vec<Action>) {
        while let Some(place) = self.stopping.and_then(|left| left.checked_sub(1)) {
            let entry = &mut self.entries[place];
            let id = Id(place);
            match entry.phase {
                Phase::Running { pid, frozen, .. } => {
                    // What stands still can't end.
                    if frozen {
                        actions.push(Action::Thaw(id));
                    }
                    actions.push(Action::Terminate(id));
                    let until = now + Nanos::from_secs(entry.service.stop_timeout_s.into());
                    let killed = false;
                    entry.phase = Phase::Ending { pid, until, killed };
                    return;
                }
                Phase::Ending { until, .. } if now < until => return,
                Phase::Ending { killed: true, .. } => {
                    actions.push(Action::Report(id, "does not end even when killed".into()));
                    entry.phase = Phase::Failed;
                }
                Phase::Ending { pid, .. } => {
                    let timeout_s = entry.service.stop_timeout_s;
                    let what = format!("did not end within {timeout_s} s of SIGTERM: killed");
                    actions.push(Action::Report(id, what));
                    actions.push(Action::Kill(id));
                    entry.phase = Phase::Ending {
                        pid,
                        until: now + KILL_GRACE,
                        killed: true,
                    };
                    return;
                }
                Phase::Waiting | Phase::Starting | Phase::Backoff { .. } => {
                    entry.phase = Phase::Stopped;
                }
                Phase::Stopped | Phase::Failed => {}
            }
            self.stopping = Some(place);
        }
    }

    /// When [`Supervisor::due`] has something to do; none where only an event can bring that.
    #[must_use]
    pub fn wake_at(&self) -> Option<Raw> {
        if let Some(left) = self.stopping {
            let entry = self.entries.get(left.checked_sub(1)?)?;
            return match entry.phase {
                Phase::Ending { until, .. } => Some(until),
                _ => Some(self.began),
            };
        }
        let running = |entry: &&Entry| matches!(entry.phase, Phase::Running { .. });
        let expected = self.entries.iter().filter(running);
        let expected = expected.filter_map(|entry| entry.health.until());
        (0..self.entries.len())
            .filter_map(|place| self.waits_until(place))
            .chain(expected.filter(|_| !self.clock.doubtful && !self.held))
            .min()
    }
}

fn backoff(row: u32) -> Nanos {
    let doubled = BACKOFF_FIRST.0.checked_shl(row.min(20)).unwrap_or(i64::MAX);
    Nanos(doubled).min(BACKOFF_LONGEST)
}

#[cfg(test)]
mod tests;
