//! Which services stand still: while their clock is wrong, and while the guest is frozen for a snapshot.

use noonmark_contract::config::OnDisruption;
use noonmark_contract::units::Raw;

use super::entry::Phase;
use super::{Action, Clock, Id, Supervisor};

impl Supervisor {
    /// Takes in what the clock is like; freezes and thaws accordingly. A machine that was away looks like
    /// services that said nothing, so all that is expected of them is waited for anew.
    pub fn set_clock(&mut self, clock: Clock, now: Raw, actions: &mut Vec<Action>) {
        if clock == self.clock {
            return;
        }
        // Most are over before anybody looks: no doubt may have been seen.
        let repaired = clock.repairs > self.clock.repairs && !clock.doubtful;
        let settled = repaired || (self.clock.doubtful && !clock.doubtful);
        self.clock = clock;
        self.freeze_and_thaw(actions);
        for (place, entry) in self.entries.iter_mut().enumerate() {
            if !matches!(entry.phase, Phase::Running { .. }) {
                continue;
            }
            if settled {
                entry.health.renew(&entry.service, now);
            }
            if let (OnDisruption::Signal(signal), true) = (entry.service.on_disruption, repaired) {
                actions.push(Action::Signal(Id(place), signal));
            }
        }
    }

    /// Lets services stand still for a snapshot, or go on. Those that run on are told by the signal that
    /// they chose.
    pub fn hold(&mut self, held: bool, now: Raw, actions: &mut Vec<Action>) {
        if held == self.held {
            return;
        }
        self.held = held;
        for (place, entry) in self.entries.iter_mut().enumerate() {
            if !matches!(entry.phase, Phase::Running { .. }) {
                continue;
            }
            if !held {
                entry.health.renew(&entry.service, now);
            }
            if let (OnDisruption::Signal(signal), true) = (entry.service.on_freeze, held) {
                actions.push(Action::Signal(Id(place), signal));
            }
        }
        self.freeze_and_thaw(actions);
    }

    /// The services that stand still.
    pub fn frozen(&self) -> impl Iterator<Item = Id> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(place, entry)| {
            matches!(entry.phase, Phase::Running { frozen: true, .. }).then_some(Id(place))
        })
    }

    /// Says whether there is what this service is for; without it, it is not started.
    pub fn set_absent(&mut self, id: Id, absent: bool) {
        self.absent.retain(|other| *other != id);
        if absent {
            self.absent.push(id);
        }
    }

    fn freeze_and_thaw(&mut self, actions: &mut Vec<Action>) {
        for (place, entry) in self.entries.iter_mut().enumerate() {
            let Phase::Running { frozen, .. } = &mut entry.phase else {
                continue;
            };
            let service = &entry.service;
            let wanted = (self.clock.doubtful && service.on_disruption == OnDisruption::Freeze)
                || (self.held && service.on_freeze == OnDisruption::Freeze);
            if wanted != *frozen {
                *frozen = wanted;
                let id = Id(place);
                actions.push(match wanted {
                    true => Action::Freeze(id),
                    false => Action::Thaw(id),
                });
            }
        }
    }
}
