//! The engine's state, and the few small things that all of its parts do with it.

use alloc::vec::Vec;

use noonmark_contract::config::ClockConfig;
use noonmark_contract::record::{Alert, Cause, DetectedBy, Event, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Raw, Utc};

use crate::discipline::Discipline;
use crate::envelope::Envelope;
use crate::estimator::Estimator;
use crate::indicators::Indicators;
use crate::kernel_clock::KernelClock;
use crate::ladder::Ladder;
use crate::suspicion::{Suspicion, Trust};

use super::messages::Action;
use super::schedule::Schedule;

/// How long the host's word that it interfered explains a jump of the reference.
const HINT_HOLDS: Nanos = Nanos::from_secs(2);

/// The shortest and longest watch that is honoured, whatever the configuration says.
const WATCH_SHORTEST: Nanos = Nanos::from_millis(1);
const WATCH_LONGEST: Nanos = Nanos::from_secs(1);

/// The clock logic's whole state.
#[derive(Debug)]
pub struct Engine {
    pub(super) step: Nanos,
    pub(super) watch: Nanos,
    pub(super) built: Utc,
    pub(super) state: State,
    pub(super) ladder: Ladder,
    pub(super) estimator: Estimator,
    pub(super) discipline: Discipline,
    pub(super) indicators: Indicators,
    /// Set while it is open whether the source followed is a falseticker.
    pub(super) suspicion: Option<Suspicion>,
    pub(super) repair: Option<Repair>,
    /// Why the next look at the clock is taken, and since when; none for a mere tick.
    pub(super) look: Option<Notice>,
    /// The host's last word that it interfered.
    pub(super) hint: Option<Notice>,
    pub(super) writing: Option<Write>,
    pub(super) reading_back: Option<ReadBack>,
    /// What glances expect, while all is quiet.
    pub(super) envelope: Option<Envelope>,
    pub(super) schedule: Schedule,
    pub(super) last: Last,
}

/// Something that was noticed, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notice {
    pub by: DetectedBy,
    pub at: Raw,
}

/// A change to the kernel's clock that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Write {
    Step(Nanos),
    Frequency(KernelClock),
}

/// Why the kernel's settings are read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadBack {
    /// The clock has left its line by this.
    Disturbed(Nanos),
    /// The frequency is to be adjusted.
    Settle,
}

/// A repair under way.
#[derive(Debug)]
pub(super) struct Repair {
    pub cause: Cause,
    pub detected: Notice,
    pub offset: Nanos,
    pub steps: u8,
    pub written: bool,
    pub announced: bool,
    /// A rate that was restored may be in force only from here on.
    pub rate_from: Raw,
}

/// What one look at the clock found.
pub(super) struct ClockCheck {
    pub offset: Nanos,
    /// How wrong `offset` may be.
    pub bound: Nanos,
    pub wrong: bool,
}

/// The last of each, for the status record.
#[derive(Debug, Default)]
pub(super) struct Last {
    pub offset: Nanos,
    pub good: Option<Raw>,
    /// When the clock was last seen undisturbed.
    pub quiet: Option<Raw>,
}

impl ClockCheck {
    /// The bound of the clock's own error.
    pub fn error(&self) -> Nanos {
        self.offset.abs() + self.bound
    }
}

impl Engine {
    /// A new engine that has seen nothing yet. `built` is the image's date: a reference before it
    /// is not believed.
    #[must_use]
    pub fn new(config: ClockConfig, built: Utc, now: Raw) -> Self {
        Self {
            step: step(config.step),
            watch: watch(config.watch),
            built,
            state: State::Unsynced,
            ladder: Ladder::new(&config.sources),
            estimator: Estimator::default(),
            discipline: Discipline::new(),
            indicators: Indicators::default(),
            suspicion: None,
            repair: None,
            look: None,
            hint: None,
            writing: None,
            reading_back: None,
            envelope: None,
            schedule: Schedule::new(now),
            last: Last::default(),
        }
    }

    /// From which offset on the clock is stepped and how often it is looked at.
    pub(super) fn set_step_and_watch(&mut self, step_from: Nanos, watch_every: Nanos) {
        self.step = step(step_from);
        self.watch = watch(watch_every);
    }

    /// Asks for a reading, unless one is under way.
    pub(super) fn ask(&mut self, source: &Source, now: Raw, actions: &mut Vec<Action>) {
        if !self.ladder.is_asked(source) {
            self.ladder.asked(source, now);
            actions.push(Action::Read(source.clone()));
        }
    }

    /// Whether the host has said, recently, that it interfered.
    pub(super) fn hinted(&self, now: Raw) -> Option<DetectedBy> {
        self.hint
            .filter(|hint| now - hint.at <= HINT_HOLDS)
            .map(|hint| hint.by)
    }

    pub(super) fn trust(&self, now: Raw, source: &Source) -> Trust {
        if source.is_hypervisors() || self.hinted(now).is_some() {
            Trust::Full
        } else {
            Trust::Checked
        }
    }

    pub(super) fn is_cross_checking(&self) -> bool {
        let suspicion = self.suspicion.as_ref();
        suspicion.is_some_and(Suspicion::is_cross_checking)
    }

    /// The offset expected at `now`, without reading anything.
    pub(super) fn offset_at(&self, now: Raw) -> Nanos {
        let prediction = self.estimator.predict(now);
        let expected = self.discipline.expected(now);
        match (prediction, expected) {
            (Some(prediction), Some(realtime)) => prediction.reference - realtime,
            _ => Nanos::ZERO,
        }
    }

    /// The state of an undisturbed clock.
    pub(super) fn settle_state(&mut self) {
        self.state = if self.ladder.followed().is_some() {
            State::Synced
        } else {
            State::Holdover
        };
    }

    /// Raises or clears an alert, and tells the host if that is news.
    pub(super) fn alert(
        &mut self,
        alert: Alert,
        standing: bool,
        why: &str,
        actions: &mut Vec<Action>,
    ) {
        if self.indicators.set_alert(alert, standing) {
            actions.push(Action::Emit(Event::Alert {
                alert,
                standing,
                why: why.into(),
            }));
        }
    }
}

fn step(configured: Nanos) -> Nanos {
    configured.max(Nanos(1))
}

fn watch(configured: Nanos) -> Nanos {
    configured.clamp(WATCH_SHORTEST, WATCH_LONGEST)
}
