//! What must hold in every life of a machine:
//!
//! - the true error is inside the stated bound, but for a moment after each fault that moves the
//!   clocks, and after a change of the host's rate never outside it by more than that rate makes of
//!   a watch tick;
//! - no step makes the clock worse than its source's own uncertainty excuses;
//! - there is no step but after the host or the guest was stepped, stood still, or came to another
//!   host;
//! - the clock is not left disrupted.
//!
//! What the bound is worth where it holds is `width`'s.

use noonmark_contract::record::State;
use noonmark_contract::sample::Source;
use noonmark_contract::units::Nanos;

use crate::host_clock::Correction;
use crate::sources::Behaviour;
use crate::width::Widths;
use crate::world::{Fault, World};

const MILLISECOND: i64 = 1_000_000;

/// Time between two watch ticks.
const WATCH: i64 = 20 * MILLISECOND;

/// What a foreign rate so close to the right one that it is only found when the kernel is read
/// back, some seconds later, can add to the error within a watch tick.
const UNNOTICED: Nanos = Nanos::from_micros(1);

/// Until a new rate of the host is noticed a watch tick passes, and some until it is known and taken
/// up; where the old one was not known well yet, more. By a source that is read every 200 ms a rate shows only once it has made more of the time
/// between readings than the bounds of two of them can hide.
const RATE_NOTICED: i64 = 200 * MILLISECOND;
const TICKS: i64 = 40 * MILLISECOND;
const RATE_NOTICED_SLOWLY: i64 = 10_000 * MILLISECOND;
const POLL: i64 = 400 * MILLISECOND;
const HIDDEN: f64 = 150_000.0;

/// How long after a fault that moves a clock it may be stepped.
const STEP_FOLLOWS: i64 = 5_000 * MILLISECOND;

/// Why the bound may be exceeded for a while.
#[derive(Clone, Copy, Debug)]
enum Excuse {
    /// A clock was moved, and that is not noticed before this.
    Moved { until: i64 },
    /// The host's clock has changed its rate by so many ppb.
    Rate { from: i64, ppb: f64 },
    /// The only source that could have told of that was lost before it had to.
    Untold { from: i64, ppb: f64 },
}

/// Whether the host's time moves against the guest's counter, and nobody says so.
fn is_unseen(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Pause(_, None) | Fault::HostStep(_) | Fault::HostRate(_)
    )
}

/// Whether a source that does so says nothing of its reference's rate.
fn is_loss(behaviour: &Behaviour) -> bool {
    use Behaviour::{Absent, Garbage, Refused, Silent};
    matches!(behaviour, Absent | Garbage | Refused | Silent)
}

impl Excuse {
    /// What it excuses at `now`, where the source followed is read at every tick or not.
    fn at(&self, now: i64, immediate: bool) -> Nanos {
        match *self {
            Self::Moved { until } if now < until => Nanos::MAX,
            Self::Rate { from, ppb } if now >= from => {
                let (noticed, poll, hidden) = if immediate {
                    (RATE_NOTICED, TICKS, 0.0)
                } else {
                    (RATE_NOTICED_SLOWLY, POLL, HIDDEN)
                };
                let by = hidden + poll as f64 * ppb.abs() / 1e9;
                Nanos(if now < from + noticed { by as i64 } else { 0 })
            }
            Self::Untold { from, ppb } if now >= from => {
                Nanos((HIDDEN + (now - from) as f64 * ppb.abs() / 1e9) as i64)
            }
            _ => Nanos::ZERO,
        }
    }

    /// What is left of it where the source followed is lost at `now`.
    fn where_lost(&self, now: i64) -> Option<Self> {
        match *self {
            Self::Rate { from, ppb } if (from..from + RATE_NOTICED_SLOWLY).contains(&now) => {
                Some(Self::Untold { from: now, ppb })
            }
            _ => None,
        }
    }
}

/// Watches a world against its truth.
#[derive(Debug, Default)]
pub struct Judge {
    excuses: Vec<Excuse>,
    may_step_until: i64,
    complaint: Option<String>,
    steps_seen: usize,
    is_booted: bool,
    disrupted_since: Option<Nanos>,
    rate_unknown_until: Nanos,
    widths: Widths,
}

impl Judge {
    /// What the clock may be wrong by, and until when, after a fault that moves clocks.
    pub fn excuse(&mut self, world: &World, fault: &Fault, followed: Option<&Source>) {
        let now = world.clocks.now();
        let immediate = followed.is_some_and(Source::is_immediate);
        if followed == Some(&Source::Rtc) && is_unseen(fault) {
            // Nothing finer than whole seconds was there to tell, for the rest of this life.
            self.excuses.push(Excuse::Moved { until: i64::MAX });
        }
        let millis = match (fault, immediate) {
            (Fault::HostRate(correction), _) => {
                self.excuse_rate(now, *correction);
                // A slew that is over between two readings is a step to whoever reads.
                let unseen = if immediate { WATCH } else { i64::MAX };
                if let Correction::Slew { span, .. } = correction
                    && *span < unseen
                {
                    self.may_step_until = now + span + STEP_FOLLOWS;
                }
                return;
            }
            (Fault::GuestStep(_), _) => 10,
            (Fault::GuestFrequency(_), _) => 60,
            (Fault::Pause(..) | Fault::HostStep(_) | Fault::Migrate(..), true) => 80,
            (Fault::Pause(..) | Fault::HostStep(_) | Fault::Migrate(..), false) => 2_500,
            // What a drift adds before it shows is within the source's own bound.
            (Fault::Behaviour(_, Behaviour::Drifting { .. }), _) => 2_000,
            (Fault::Behaviour(_, behaviour), false) if is_loss(behaviour) => {
                let left = self.excuses.iter().filter_map(|it| it.where_lost(now));
                let left: Vec<Excuse> = left.collect();
                self.excuses.extend(left);
                0
            }
            (Fault::Behaviour(..), _) => 0,
        };
        if let Fault::GuestFrequency(_) = fault {
            self.rate_unknown_until = Nanos(now) + Nanos::from_secs(5);
        }
        if !matches!(fault, Fault::Behaviour(..)) {
            self.may_step_until = now + STEP_FOLLOWS;
        }
        let until = now + millis * MILLISECOND;
        self.excuses.push(Excuse::Moved { until });
    }

    /// The same after a change of the host's rate, and of each further one that it brings.
    fn excuse_rate(&mut self, now: i64, correction: Correction) {
        let excuses = &mut self.excuses;
        let mut change = |from: i64, ppb: f64| excuses.push(Excuse::Rate { from, ppb });
        match correction {
            // From whatever rate it had.
            Correction::Rate(rate) => change(now, rate.0.abs() + 600_000.0),
            Correction::Slew { rate, span } => {
                change(now, rate.0);
                change(now + span, rate.0);
            }
            Correction::Pll { rate, share } => {
                let (mut at, mut left) = (now, rate.0);
                change(at, left);
                while left.abs() > 1_000.0 {
                    at += 1_000 * MILLISECOND;
                    change(at, left * (1.0 - share));
                    left *= share;
                }
            }
        }
    }

    pub fn check(&mut self, world: &mut World) {
        if self.complaint.is_some() {
            return;
        }
        self.check_steps(world);
        let state = world.engine.state();
        if state == State::Unsynced {
            return;
        }
        let now = world.clocks.now();
        let followed = world.engine.status(world.clocks.raw()).source;
        let immediate = followed.as_ref().is_some_and(Source::is_immediate);
        let excuses = self.excuses.iter();
        let excused = excuses.map(|excuse| excuse.at(now, immediate));
        let excused = excused.fold(Nanos::ZERO, |sum, by| sum + by);
        if excused == Nanos::MAX {
            return;
        }
        let (error, bound) = (world.clocks.error(), world.bound());
        self.widths.note(now, followed.as_ref(), error, bound);
        let bound = bound + excused;
        let at = Nanos(world.clocks.now());
        let unnoticed = if at < self.rate_unknown_until {
            UNNOTICED
        } else {
            Nanos(1)
        };
        if error.abs() > bound + unnoticed {
            self.complain(format!("at {at} the error is {error}, outside {bound}"));
        } else if state == State::Disrupted {
            let since = *self.disrupted_since.get_or_insert(at);
            // A slow source's word on the repair can take until its deadline.
            let followed = world.engine.status(world.clocks.raw()).source;
            let patience = match followed {
                Some(source) if source.is_immediate() => Nanos::from_millis(10),
                _ => Nanos::from_millis(500),
            };
            if at - since > patience {
                self.complain(format!("at {at} the clock is still not repaired"));
            }
        } else {
            self.disrupted_since = None;
        }
    }

    fn check_steps(&mut self, world: &World) {
        for step in &world.steps[self.steps_seen..] {
            let followed = world.engine.status(world.clocks.raw()).source;
            let uncertain = match followed {
                Some(source) if source.is_immediate() => Nanos::from_micros(10),
                Some(Source::Host) => Nanos::from_micros(500),
                _ => Nanos::from_millis(1_100),
            };
            if step.after.abs() > step.before.abs() + uncertain {
                let at = Nanos(world.clocks.now());
                let (before, after) = (step.before, step.after);
                self.complaint = Some(format!("at {at} a step made {before} into {after}"));
            }
            if self.is_booted && world.clocks.now() > self.may_step_until {
                let (at, before) = (Nanos(world.clocks.now()), step.before);
                let what = format!("at {at} a step without a reason, of {before}");
                self.complaint.get_or_insert(what);
            }
        }
        self.steps_seen = world.steps.len();
        self.is_booted |= world.engine.state() == State::Synced;
    }

    /// How wide the bound was beside the true error.
    pub fn widths(&self) -> &Widths {
        &self.widths
    }

    fn complain(&mut self, what: String) {
        self.complaint.get_or_insert(what);
    }

    pub fn verdict(&self, world: &World) -> Result<(), String> {
        if let Some(complaint) = &self.complaint {
            return Err(complaint.clone());
        }
        if world.engine.state() == State::Unsynced {
            return Err("the clock was never synced".into());
        }
        Ok(())
    }
}
