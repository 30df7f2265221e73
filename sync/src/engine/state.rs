//! The engine's state, and the few small things that all of its parts do with it.

use alloc::vec::Vec;

use noonmark_contract::config::ClockConfig;
use noonmark_contract::record::{Alert, Cause, DetectedBy, Event, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};

use crate::discipline::Discipline;
use crate::envelope::Envelope;
use crate::estimator::Estimator;
use crate::indicators::Indicators;
use crate::kernel_clock::KernelClock;
use crate::ladder::Ladder;
use crate::policy::Policy;
use crate::stopwatch::Stopwatch;
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
    pub(super) policy: Policy,
    pub(super) watch: Nanos,
    pub(super) built: Utc,
    pub(super) started: Raw,
    pub(super) rtc_grace: Nanos,
    /// Whether no source but the RTC has ever been followed; what it says of the time is provisional.
    pub(super) only_rtc: bool,
    /// How fast the source followed ran against RAW when that was first known.
    pub(super) first_rate: Option<Ppb>,
    pub(super) state: State,
    pub(super) ladder: Ladder,
    pub(super) estimator: Estimator,
    pub(super) discipline: Discipline,
    pub(super) indicators: Indicators,
    /// Set while it is open whether the source followed is a falseticker.
    pub(super) suspicion: Option<Suspicion>,
    /// Set while it is open how the reference left its line.
    pub(super) regime: Option<Regime>,
    /// The rate of the reference that operators were told last.
    pub(super) told_rate: Option<Ppb>,
    /// Set while nobody knows whether the reference is slewed or the source that said so was wrong.
    pub(super) contested: Option<Contested>,
    pub(super) repair: Option<Repair>,
    /// Why the next look at the clock is taken, and since when; none for a mere tick.
    pub(super) look: Option<Notice>,
    /// The host's last word that it interfered.
    pub(super) hint: Option<Notice>,
    pub(super) writing: Option<Write>,
    pub(super) reading_back: Option<ReadBack>,
    pub(super) stopwatch: Stopwatch,
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

/// The reference has left its line, and how is being found out.
#[derive(Debug)]
pub(super) struct Regime {
    pub since: Raw,
    /// How far it was off the line then.
    pub by: Nanos,
    /// What made it so, if it was a step.
    pub cause: Cause,
    /// None where that was never known.
    pub rate_before: Option<Ppb>,
    /// Whether it has been told that it was a step.
    pub was_told: bool,
    /// When it is read next.
    pub read_at: Raw,
}

/// A source that nothing else could check drifted from what was expected of it, and was let go. Its
/// host may have slewed its clock; then the reference has gone on as the source said.
#[derive(Clone, Debug)]
pub(super) struct Contested {
    pub source: Source,
    pub since: Raw,
    /// How far the reference is off, if it was stepped.
    pub by: Nanos,
    /// How fast it goes on, if it is slewed.
    pub rate: Ppb,
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
    /// How wrong it may be beyond that, if a source that is not believed is right.
    pub contested: Nanos,
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
        self.offset.abs() + self.bound + self.contested
    }
}

impl Engine {
    /// A new engine that has seen nothing yet. `built` is the image's date: a reference before it
    /// is not believed.
    #[must_use]
    pub fn new(config: ClockConfig, built: Utc, now: Raw) -> Self {
        Self {
            policy: Policy::new(&config),
            watch: watch(config.watch),
            built,
            started: now,
            rtc_grace: config.rtc_grace,
            only_rtc: true,
            first_rate: None,
            state: State::Unsynced,
            ladder: Ladder::new(&config.sources),
            estimator: Estimator::default(),
            discipline: Discipline::new(),
            indicators: Indicators::default(),
            suspicion: None,
            regime: None,
            told_rate: None,
            contested: None,
            repair: None,
            look: None,
            hint: None,
            writing: None,
            reading_back: None,
            stopwatch: Stopwatch::default(),
            envelope: None,
            schedule: Schedule::new(now),
            last: Last::default(),
        }
    }

    /// From which offset on the clock is stepped and how often it is looked at.
    pub(super) fn set_step_and_watch(&mut self, step_from: Nanos, watch_every: Nanos) {
        self.policy.set_step(step_from);
        self.watch = watch(watch_every);
    }

    /// How long after `now` the clock is looked at next.
    pub(super) fn tick(&self, now: Raw) -> Nanos {
        let followed = self.ladder.followed();
        match followed {
            Some(rung) if rung.source.is_hypervisors() => self.schedule.tick(now, self.watch),
            _ => self.watch,
        }
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

fn watch(configured: Nanos) -> Nanos {
    configured.clamp(WATCH_SHORTEST, WATCH_LONGEST)
}
