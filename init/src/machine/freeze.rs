//! The freeze for a snapshot, sans I/O: services stand still, then data disks; and go on once the host says
//! so or the machine was resumed, and the clock is right. However it goes, it ends by itself.

pub mod disks;

use noonmark_contract::record::{Event, ThawedBy};
use noonmark_contract::units::{Nanos, Raw};

/// How long services may take to stand still. What does not is in the kernel, at a device that doesn't
/// answer.
const STOPPING: Nanos = Nanos::from_secs(10);

/// How long data disks may take to be written out and frozen, where a freeze may last longer: the host waits
/// for an answer.
const FREEZING: Nanos = Nanos::from_secs(60);

/// How long the clock may take to be found right before a thaw. Longer, and a source that is gone would
/// keep the guest frozen.
const CONFIRMING: Nanos = Nanos::from_secs(10);

/// How long disks may take to thaw, which is a write or two.
const THAWING: Nanos = Nanos::from_secs(10);

/// How soon it is looked at again whether services stand still, and what became of the disks.
const LOOK_AGAIN: Nanos = Nanos::from_millis(2);

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Action {
    /// Let services stand still, or go on.
    Hold(bool),
    /// Freeze the data disks, or thaw them; the outcome comes as [`Facts::disks`].
    Disks {
        /// Freeze.
        freeze: bool,
    },
    /// Look at the clock at once.
    Look,
    /// Report this.
    Report(Event),
}

/// What the shell knows.
pub struct Facts<'a> {
    /// Whether all services that are to stand still do so.
    pub stand_still: bool,
    /// What came of the disks since the last call: how many file systems, or what went wrong.
    pub disks: Option<Result<u32, String>>,
    /// Whether the clock has been found right since this instant, so that services may go on.
    pub is_right_since: &'a dyn Fn(Raw) -> bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Thawed,
    Stopping {
        until: Raw,
    },
    Freezing {
        until: Raw,
    },
    Frozen {
        until: Raw,
    },
    Confirming {
        since: Raw,
        until: Raw,
        by: ThawedBy,
    },
    Thawing {
        until: Raw,
        by: ThawedBy,
    },
}

/// The freeze, and what came of the last one.
#[derive(Debug)]
pub struct Freeze {
    phase: Phase,
    limit: Nanos,
    /// Who wants a thaw as soon as the freeze is done.
    wanted: Option<ThawedBy>,
    file_systems: u32,
    problem: Option<String>,
}

impl Freeze {
    /// Thawed. A freeze lasts for `limit` at most.
    #[must_use]
    pub fn new(limit: Nanos) -> Self {
        Self {
            phase: Phase::Thawed,
            limit,
            wanted: None,
            file_systems: 0,
            problem: None,
        }
    }

    /// How many file systems are frozen, while the guest is.
    #[must_use]
    pub fn frozen(&self) -> Option<u32> {
        matches!(self.phase, Phase::Frozen { .. }).then_some(self.file_systems)
    }

    /// Whether nothing stands still.
    #[must_use]
    pub fn is_thawed(&self) -> bool {
        self.phase == Phase::Thawed
    }

    /// How many file systems the last freeze was of.
    #[must_use]
    pub fn file_systems(&self) -> u32 {
        self.file_systems
    }

    /// Why the last freeze failed, if it did.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The host wants it.
    ///
    /// # Errors
    /// Why not.
    pub fn begin(&mut self, now: Raw, actions: &mut Vec<Action>) -> Result<(), &'static str> {
        match self.phase {
            Phase::Thawed => {
                let until = now + STOPPING;
                self.phase = Phase::Stopping { until };
                (self.wanted, self.problem, self.file_systems) = (None, None, 0);
                actions.push(Action::Hold(true));
                Ok(())
            }
            Phase::Stopping { .. } | Phase::Freezing { .. } => Ok(()),
            Phase::Frozen { .. } => {
                actions.push(self.told());
                Ok(())
            }
            Phase::Confirming { .. } | Phase::Thawing { .. } => Err("it is about to thaw"),
        }
    }

    /// It is to end, once the clock is right.
    pub fn thaw(&mut self, by: ThawedBy, now: Raw, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Thawed | Phase::Thawing { .. } => {}
            // Nobody has been told that it is frozen: a resume is not one from the snapshot.
            Phase::Stopping { .. } | Phase::Freezing { .. } => {
                self.wanted = (by != ThawedBy::Resume).then_some(by).or(self.wanted);
            }
            Phase::Frozen { .. } | Phase::Confirming { .. } => {
                self.phase = Phase::Confirming {
                    since: now,
                    until: now + CONFIRMING,
                    by,
                };
                actions.push(Action::Look);
            }
        }
    }

    /// It ends at once, because the machine goes down.
    pub fn abandon(&mut self, actions: &mut Vec<Action>) {
        if !self.is_thawed() {
            self.phase = Phase::Thawed;
            let by = ThawedBy::Shutdown;
            actions.extend([
                Action::Disks { freeze: false },
                Action::Hold(false),
                Action::Report(Event::Thawed { by }),
            ]);
        }
    }

    /// Goes on as far as it can.
    pub fn proceed(&mut self, now: Raw, facts: Facts<'_>, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Thawed => {}
            Phase::Stopping { .. } if facts.stand_still => {
                let until = now + self.within();
                self.phase = Phase::Freezing { until };
                actions.push(Action::Disks { freeze: true });
            }
            Phase::Stopping { until } if now >= until => {
                let why = format!("services did not stand still within {STOPPING}");
                self.fail(why, now, actions);
            }
            Phase::Freezing { until } => match facts.disks {
                Some(Ok(count)) => {
                    self.file_systems = count;
                    let until = now + self.limit;
                    self.phase = Phase::Frozen { until };
                    actions.push(self.told());
                    if let Some(by) = self.wanted.take() {
                        self.thaw(by, now, actions);
                    }
                }
                Some(Err(why)) => self.fail(why, now, actions),
                None if now >= until => {
                    let why = format!("data disks were not frozen within {}", self.within());
                    self.fail(why, now, actions);
                }
                None => {}
            },
            Phase::Frozen { until } if now >= until => self.thaw(ThawedBy::Limit, now, actions),
            Phase::Confirming { since, until, by } => {
                if (facts.is_right_since)(since) || now >= until {
                    self.thaw_disks(by, now, actions);
                }
            }
            Phase::Thawing { until, by } => {
                let outcome = match facts.disks {
                    None if now < until => return,
                    None => Err(format!("data disks did not thaw within {THAWING}")),
                    Some(outcome) => outcome,
                };
                if let Err(what) = outcome {
                    actions.push(Action::Report(Event::Failure { what }));
                }
                self.phase = Phase::Thawed;
                actions.extend([Action::Hold(false), Action::Report(Event::Thawed { by })]);
            }
            Phase::Stopping { .. } | Phase::Frozen { .. } => {}
        }
    }

    /// When [`Freeze::proceed`] has something to do; none where nothing is frozen.
    #[must_use]
    pub fn deadline(&self, now: Raw) -> Option<Raw> {
        match self.phase {
            Phase::Thawed => None,
            Phase::Frozen { until } => Some(until),
            _ => Some(now + LOOK_AGAIN),
        }
    }

    fn within(&self) -> Nanos {
        self.limit.min(FREEZING)
    }

    fn told(&self) -> Action {
        let file_systems = self.file_systems;
        Action::Report(Event::Frozen { file_systems })
    }

    fn fail(&mut self, why: String, now: Raw, actions: &mut Vec<Action>) {
        let what = format!("freeze: {why}");
        actions.push(Action::Report(Event::Failure { what }));
        self.problem = Some(why);
        self.thaw_disks(ThawedBy::Failure, now, actions);
    }

    fn thaw_disks(&mut self, by: ThawedBy, now: Raw, actions: &mut Vec<Action>) {
        self.phase = Phase::Thawing {
            until: now + THAWING,
            by,
        };
        actions.push(Action::Disks { freeze: false });
    }
}

#[cfg(test)]
mod tests;
