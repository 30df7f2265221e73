//! The engine: what happened goes in, what to do comes out.
//!
//! The shell (PID 1, or the simulator) owns the clocks and devices. It calls [`Engine::handle`]
//! with each [`Input`] and carries out the returned [`Action`]s in order, feeding back what each
//! of them yields, before it waits again.
//!
//! How an input flows through it: a wake asks for a reading of the source followed, or, where that
//! is slow or lost, of the guest's own clocks (this file). A reading is compared with what the
//! estimator expects of the reference (`track`): a contradiction opens a doubt. What is believed
//! then gives the clock's own offset: too large, it is stepped and verified (`repair`); else it is
//! slewed away (`frequency`). A source that fails gives way to the next (`sources`). Most watch
//! ticks need none of it: a glance shows that all is as expected (`glance`).

mod frequency;
mod glance;
mod repair;
mod report;
mod sources;
mod track;

use alloc::vec::Vec;

use glance::Envelope;

use crate::discipline::Discipline;
use crate::doubt::Doubt;
use crate::estimator::Estimator;
use crate::indicators::Indicators;
use crate::ladder::Ladder;
pub(crate) use glance::Glanced;
pub use glance::Glimpse;
use noonmark_contract::config::ClockConfig;
use noonmark_contract::record::{Alert, DetectedBy, Event, State};
use noonmark_contract::sample::{Local, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};
use repair::Repair;

/// What the shell tells the engine.
#[derive(Debug, PartialEq)]
pub enum Input {
    /// Something may have disturbed the clock, or a watch tick came ([`DetectedBy::WatchTick`]).
    Wake(DetectedBy),
    /// The answer to [`Action::Read`].
    Read(Source, Result<Reading, ReadFailure>),
    /// The answer to [`Action::Step`], [`Action::SetFrequency`]: done, or the errno.
    Adjusted(Result<(), i32>),
    /// The answer to [`Action::ReadLocal`].
    Local(Local),
    /// The answer to [`Action::ReadKernel`].
    Kernel(Result<KernelClock, i32>),
    /// A device or port appeared or went away, so that the ladder should be tried again.
    SourcesChanged,
}

/// What `adjtimex` says of `CLOCK_REALTIME` (kernel/time/ntp.c).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelClock {
    /// `freq`: the frequency set, +-500 ppm.
    pub frequency: Ppb,
    /// `tick`: microseconds between two ticks of 1/100 s; 9000..=11000, normally 10000.
    pub tick_us: i64,
}

/// What the engine wants done, in this order.
#[derive(Debug, PartialEq)]
#[must_use]
pub enum Action {
    /// Take a reading of this source and feed it back as [`Input::Read`]. PHC and RTC answer at
    /// once; the host's channel answers later, or fails with `Timeout`.
    Read(Source),
    /// Read `CLOCK_REALTIME` and `CLOCK_MONOTONIC_RAW` at one instant and feed them back as
    /// [`Input::Local`]. Needs no source, so it works where the reference is slow or gone.
    ReadLocal,
    /// Read the kernel's clock discipline back, as [`Input::Kernel`].
    ReadKernel,
    /// Add this to `CLOCK_REALTIME` with ADJ_SETOFFSET; feed back [`Input::Adjusted`].
    Step(Nanos),
    /// Set frequency and tick; feed back [`Input::Adjusted`].
    SetFrequency(KernelClock),
    /// Call again with [`DetectedBy::WatchTick`] no later than this. Replaces an earlier one.
    WakeAt(Raw),
    /// Tell the host.
    Emit(Event),
}

/// How long the host's word that it interfered explains a jump of the reference.
const HINT_HOLDS: Nanos = Nanos::from_secs(2);

/// Time between two readings of a source that is too dear for every watch tick: at first, and
/// once all is quiet. The latter also bounds how late a silent source or a pause is noticed.
const SLOW_READ_FIRST: Nanos = Nanos::from_millis(100);
const SLOW_READ_LAST: Nanos = Nanos::from_millis(200);

/// The same for servers on a network, which are not ours to load.
const NETWORK_READ_FIRST: Nanos = Nanos::from_secs(2);
const NETWORK_READ_LAST: Nanos = Nanos::from_secs(32);

/// Time between two adjustments of the frequency: at first, and once all is quiet.
const SETTLE_FIRST: Nanos = Nanos::from_millis(40);
const SETTLE_LAST: Nanos = Nanos::from_secs(4);

/// The shortest and longest watch that is honoured, whatever the configuration says.
const WATCH_SHORTEST: Nanos = Nanos::from_millis(1);
const WATCH_LONGEST: Nanos = Nanos::from_secs(1);

/// The clock logic's whole state.
#[derive(Debug)]
pub struct Engine {
    step: Nanos,
    watch: Nanos,
    built: Utc,
    state: State,
    ladder: Ladder,
    estimator: Estimator,
    discipline: Discipline,
    indicators: Indicators,
    doubt: Option<Doubt>,
    repair: Option<Repair>,
    /// Why the next look at the clock is taken, and since when; none for a mere tick.
    look: Option<Look>,
    /// The host's last word that it interfered.
    hint: Option<Look>,
    writing: Option<Write>,
    asking_kernel: Option<Why>,
    /// What glances expect, while all is quiet.
    envelope: Option<Envelope>,
    schedule: Schedule,
    last: Last,
}

/// Something that happened, and when.
#[derive(Clone, Copy, Debug)]
struct Look {
    by: DetectedBy,
    at: Raw,
}

/// A change to the kernel's clock that is under way.
#[derive(Clone, Copy, Debug)]
enum Write {
    Step(Nanos),
    Frequency(KernelClock),
}

/// Why the kernel's settings were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The clock has left its line by this.
    Disturbed(Nanos),
    /// The frequency is to be adjusted.
    Settle,
}

/// When what is due.
#[derive(Debug)]
struct Schedule {
    /// The source followed is read next, if it isn't at every tick.
    read: Raw,
    read_interval: Nanos,
    /// The frequency is adjusted next.
    settle: Raw,
    settle_interval: Nanos,
    /// The last small move of a checked source that was believed.
    small_move: Option<Raw>,
    /// When the source followed last changed.
    switched: Option<Raw>,
    /// What was followed before it was lost.
    lost: Option<Source>,
    /// Since when nothing is followed.
    holdover: Option<Raw>,
}

/// The last of each, for the status record.
#[derive(Debug, Default)]
struct Last {
    offset: Nanos,
    good: Option<Raw>,
    /// When the clock was last seen undisturbed.
    quiet: Option<Raw>,
}

impl Engine {
    /// A new engine that has seen nothing yet. `built` is the image's date: a reference before it
    /// is not believed.
    #[must_use]
    pub fn new(config: ClockConfig, built: Utc, now: Raw) -> Self {
        Self {
            step: config.step.max(Nanos(1)),
            watch: config.watch.clamp(WATCH_SHORTEST, WATCH_LONGEST),
            built,
            state: State::Unsynced,
            ladder: Ladder::new(&config.sources),
            estimator: Estimator::default(),
            discipline: Discipline::new(),
            indicators: Indicators::default(),
            doubt: None,
            repair: None,
            look: None,
            hint: None,
            writing: None,
            asking_kernel: None,
            envelope: None,
            schedule: Schedule {
                read: now,
                read_interval: SLOW_READ_FIRST,
                settle: now + SETTLE_FIRST,
                settle_interval: SETTLE_FIRST,
                small_move: None,
                switched: None,
                lost: None,
                holdover: None,
            },
            last: Last::default(),
        }
    }

    /// Changes, in the middle of it all, from which offset on the clock is stepped and how often it
    /// is looked at; the latter from the next look on.
    pub fn set_pace(&mut self, step: Nanos, watch: Nanos) {
        self.end_glances();
        self.step = step.max(Nanos(1));
        self.watch = watch.clamp(WATCH_SHORTEST, WATCH_LONGEST);
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

    /// How many exchanges a reading of the host's channel should take at present: many while the
    /// clock is not synced or something is in doubt, few in the steady state.
    #[must_use]
    pub fn burst_exchanges(&self) -> u8 {
        let quiet = self.state == State::Synced && self.doubt.is_none();
        if quiet && self.schedule.settle_interval > Nanos::from_secs(1) {
            2
        } else {
            noonmark_contract::channel::BURST
        }
    }

    /// The clock's state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether there is reason to think that the clock is wrong, though nothing is certain yet: the
    /// source followed contradicts what was expected of it by more than a drift would, or the host
    /// has said that it interfered. Ends with the source's or a witness's answer, or the lack of it.
    #[must_use]
    pub fn suspects_clock(&self, now: Raw) -> bool {
        // What is small is watched for seconds, and is most often not the clock's fault.
        let contradicted = |doubt: &Doubt| doubt.is_expected() && !doubt.is_small();
        let answered = |hint: Look| self.last.good.is_some_and(|good| good >= hint.at);
        let interfered = self.ladder.followed().is_some() && self.hinted(now).is_some();
        self.doubt.as_ref().is_some_and(contradicted)
            || (interfered && self.hint.is_some_and(|hint| !answered(hint)))
    }

    /// How often the clock was put right after it had been right, since boot.
    #[must_use]
    pub fn repairs(&self) -> u64 {
        self.indicators.repaired()
    }

    fn wake(&mut self, now: Raw, by: DetectedBy, actions: &mut Vec<Action>) {
        let look = Look { by, at: now };
        match by {
            DetectedBy::WatchTick => self.allow_step(),
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
        if self.repair.is_none() && self.doubt.is_none() {
            self.try_candidate(now, actions);
        }
        self.watch_holdover(now, actions);
        actions.push(Action::WakeAt(now + self.watch));
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
        if !source.is_immediate() {
            actions.push(Action::ReadLocal);
            if now < self.schedule.read {
                return;
            }
        }
        self.ask(&source, now, actions);
    }

    /// Asks for a reading, unless one is under way.
    fn ask(&mut self, source: &Source, now: Raw, actions: &mut Vec<Action>) {
        if !self.ladder.is_asked(source) {
            self.ladder.asked(source, now);
            actions.push(Action::Read(source.clone()));
        }
    }

    /// Whether the host has said, recently, that it interfered.
    fn hinted(&self, now: Raw) -> Option<DetectedBy> {
        self.hint
            .filter(|hint| now - hint.at <= HINT_HOLDS)
            .map(|hint| hint.by)
    }

    fn watch_holdover(&mut self, now: Raw, actions: &mut Vec<Action>) {
        const TOO_LONG: Nanos = Nanos::from_secs(60);
        if self
            .schedule
            .holdover
            .is_some_and(|since| now - since > TOO_LONG)
        {
            let why = "no source has answered for a minute; the clock runs on its last frequency";
            self.alert(Alert::LongHoldover, true, why, actions);
        }
    }

    fn alert(&mut self, alert: Alert, standing: bool, why: &str, actions: &mut Vec<Action>) {
        if self.indicators.set_alert(alert, standing) {
            actions.push(Action::Emit(Event::Alert {
                alert,
                standing,
                why: why.into(),
            }));
        }
    }
}
