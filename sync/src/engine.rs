//! The engine: what happened goes in, what to do comes out.
//!
//! The shell (PID 1, or the simulator) owns the clocks and devices. It calls [`Engine::handle`]
//! with each [`Input`] and carries out the returned [`Action`]s in order, feeding back what each
//! of them yields, before it waits again.
//!
//! This file is the engine's face and its loop: a wake asks for a reading of the source followed
//! or, where that is slow or lost, of the guest's own clocks. What comes back goes down through the
//! parts below, each of which calls only those under it:
//!
//! | part | what it does |
//! |---|---|
//! | `readings` | compares a reading with what is expected of the reference, or takes it for a probe |
//! | `cross_check` | on a contradiction, tells a move of the reference from a falseticker |
//! | `regime` | a reference that left its line: a step, or another rate |
//! | `check` | takes an accepted reading in and looks at the clock by it |
//! | `sources` | fails over, holds over, climbs back |
//! | `repair` | steps a wrong clock, and verifies the step |
//! | `frequency` | slews a right one |
//! | `state`, `schedule`, `messages` | what all of them share |
//!
//! Most watch ticks need none of it: a glance shows that all is as expected (`glance`). `report` says
//! how the engine stands.

mod check;
mod cross_check;
mod frequency;
mod glance;
mod messages;
mod readings;
mod regime;
mod repair;
mod report;
mod schedule;
mod sources;
mod state;

use alloc::vec::Vec;

use noonmark_contract::record::{Alert, DetectedBy, State};
use noonmark_contract::sample::ReadFailure;
use noonmark_contract::units::{Nanos, Raw};

pub use crate::kernel_clock::KernelClock;
pub use messages::{Action, Glimpse, Input};
pub use state::Engine;

use schedule::Polls;
use state::Notice;

/// Without any source for this long, operators are told.
const LONG_HOLDOVER: Nanos = Nanos::from_secs(60);

impl Engine {
    /// Changes, in the middle of it all, from which offset on the clock is stepped and how often it
    /// is looked at; the latter from the next look on.
    pub fn set_pace(&mut self, step: Nanos, watch: Nanos) {
        self.end_glances();
        self.set_step_and_watch(step, watch);
    }

    /// Changes how often servers on a network are polled: at least and at most so long lies between
    /// two readings once the first few are over.
    pub fn set_polls(&mut self, min: Nanos, max: Nanos) {
        self.schedule.polls = Polls {
            min,
            max: max.max(min),
        };
    }

    /// What the processor's own counter says beside RAW, which tells a pause of the machine from a step
    /// of its host's clock. A shell that can read one says so before each [`Engine::handle`].
    pub fn note_ticks(&mut self, now: Raw, ticks: u64) {
        self.stopwatch.look(now, ticks);
    }

    /// Takes in what happened at `now` and appends what is to be done to `actions`.
    pub fn handle(&mut self, now: Raw, input: Input, actions: &mut Vec<Action>) {
        self.end_glances();
        match input {
            Input::Wake(by) => self.wake(now, by, actions),
            Input::Read(source, outcome) => self.read(now, &source, outcome, actions),
            Input::Local(local) => self.local(now, &local, actions),
            Input::Kernel(outcome) => self.kernel(now, outcome, actions),
            Input::Adjusted(outcome) => self.adjusted(now, outcome, actions),
            Input::SourcesChanged => {
                self.ladder.retry_all();
                self.try_candidate(now, actions);
            }
        }
    }

    /// The shell has let go of the last actions, after too many in a row: none of them was carried out,
    /// and no answer to them will come. What they were for begins anew.
    pub fn abandon(&mut self, now: Raw) {
        self.writing = None;
        self.reading_back = None;
        self.ladder.forget_asked();
        self.schedule.read = now;
    }

    fn wake(&mut self, now: Raw, by: DetectedBy, actions: &mut Vec<Action>) {
        let look = Notice { by, at: now };
        match by {
            DetectedBy::WatchTick => {
                self.schedule.woke(now);
                self.allow_step();
            }
            DetectedBy::CancelOnSet | DetectedBy::Boot => self.look = Some(look),
            DetectedBy::Vmgenid | DetectedBy::Vmclock | DetectedBy::Kick => {
                self.look = Some(look);
                self.hint = Some(look);
                self.schedule.read = now;
            }
        }
        if by == DetectedBy::Boot {
            actions.push(Action::ReadLocal);
        }
        self.look_at_clock(now, actions);
        if let Some(source) = self.ladder.overdue(now) {
            self.read(now, &source, Err(ReadFailure::Timeout), actions);
        }
        if self.repair.is_none() && self.suspicion.is_none() {
            self.try_candidate(now, actions);
        }
        self.watch_holdover(now, actions);
        self.wake_at(now + self.tick(now), actions);
    }

    /// Asks for the cheapest reading that can tell whether the clock is right.
    fn look_at_clock(&mut self, now: Raw, actions: &mut Vec<Action>) {
        let Some(rung) = self.ladder.followed() else {
            if self.state != State::Unsynced {
                actions.push(Action::ReadLocal);
            }
            return;
        };
        let source = rung.source.clone();
        // The readings of a suspect source are not taken in, but somebody may set the clock meanwhile.
        if !source.is_immediate() || self.suspicion.is_some() {
            actions.push(Action::ReadLocal);
        }
        if !source.is_immediate() && now < self.schedule.read {
            return;
        }
        self.ask(&source, now, actions);
    }

    fn watch_holdover(&mut self, now: Raw, actions: &mut Vec<Action>) {
        if self
            .schedule
            .holdover
            .is_some_and(|since| now - since > LONG_HOLDOVER)
        {
            let why = "no source has answered for a minute; the clock runs on its last frequency";
            self.alert(Alert::LongHoldover, true, why, actions);
        }
    }
}

#[cfg(test)]
mod tests;
