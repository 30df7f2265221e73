//! Random lives of a machine, each grown from its seed, and what must hold in all of them:
//!
//! - the true error is inside the stated bound, but for a moment after each fault that moves the
//!   clocks;
//! - no step makes the clock worse than its source's own uncertainty excuses;
//! - the clock is not left disrupted.

use fastrand::Rng;
use noonmark_contract::record::{DetectedBy, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Ppb};
use noonmark_sync::engine::KernelClock;

use crate::clocks::Oscillator;
use crate::sources::Behaviour;
use crate::world::{Fault, World, rate};

/// One second of physical time.
pub const SECOND: i64 = 1_000_000_000;

/// Every fault has at least this long to itself.
const SPACING: i64 = 3 * SECOND;

/// What a foreign rate so close to the right one that it is only found when the kernel is read
/// back, some seconds later, can add to the error within a watch tick.
const UNNOTICED: Nanos = Nanos::from_micros(1);

/// A machine and what happens to it.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub sources: Vec<Source>,
    pub oscillator: Oscillator,
    /// How far the clock is behind at boot.
    pub offset: Nanos,
    /// Faults by physical time, in order.
    pub plan: Vec<(i64, Fault)>,
    pub ends: i64,
}

/// What kind of machine it is: which faults it can be expected to survive follows from what it
/// can know.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A hypervisor's PHC, with others below it.
    Hypervisor,
    /// Any other PHC.
    Phc,
    /// The host's channel and the RTC.
    Channel,
    /// The RTC alone.
    RtcOnly,
}

impl Scenario {
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let kind = match rng.u32(0..10) {
            0..5 => Kind::Hypervisor,
            5..6 => Kind::Phc,
            6..9 => Kind::Channel,
            _ => Kind::RtcOnly,
        };
        let sources = match kind {
            Kind::Hypervisor => vec![Source::Kvm, Source::Host, Source::Rtc],
            Kind::Phc => vec![Source::Phc("igb".into()), Source::Rtc],
            Kind::Channel => vec![Source::Host, Source::Rtc],
            Kind::RtcOnly => vec![Source::Rtc],
        };
        let oscillator = Oscillator {
            drift_ppb: (rng.f64() - 0.5) * 200_000.0,
            wander_ppb: rng.f64() * 100.0,
            bias_ppb: (rng.f64() - 0.5) * 120.0,
        };
        let offset = Nanos(rng.i64(-SECOND..SECOND));
        let mut at = rng.i64(SECOND..2 * SPACING);
        let mut plan = Vec::new();
        let mut all_truechimers = true;
        for _ in 0..rng.usize(0..8) {
            all_truechimers = add_fault(kind, all_truechimers, &mut at, &mut plan, &mut rng);
        }
        Self {
            seed,
            sources,
            oscillator,
            offset,
            plan,
            ends: at + SPACING,
        }
    }

    /// Lives it, and says what did not hold; with `trace`, prints what the engine reported.
    pub fn run(&self, trace: bool) -> Result<(), String> {
        let rng = Rng::with_seed(self.seed ^ 0x5eed);
        let mut world = World::new(&self.sources, self.oscillator, self.offset, rng);
        let mut judge = Judge::default();
        world.boot();
        for (at, fault) in &self.plan {
            world.run(*at, |world| judge.check(world));
            let followed = world.engine.status(world.clocks.raw()).source;
            world.fault(*fault);
            judge.excuse(&world, fault, followed);
        }
        world.run(self.ends, |world| judge.check(world));
        if trace {
            for (at, event) in &world.events {
                println!("{} {event:?}", Nanos(*at));
            }
        }
        judge.verdict(&world)
    }
}

/// Adds a fault and moves on; returns whether the machine's sources are still all truechimers.
fn add_fault(
    kind: Kind,
    honest: bool,
    at: &mut i64,
    plan: &mut Vec<(i64, Fault)>,
    rng: &mut Rng,
) -> bool {
    let span = |rng: &mut Rng| Nanos(10_i64.pow(rng.u32(6..13)) / 10 * rng.i64(1..10));
    let either = |span: Nanos, rng: &mut Rng| if rng.bool() { span } else { -span };
    let large = Nanos::from_millis(25);
    let may_move = honest && kind != Kind::RtcOnly;
    let fault = match rng.u32(0..10) {
        0..3 => Fault::GuestStep(either(span(rng), rng)),
        3 => Fault::GuestFrequency(rate(either(Nanos(rng.i64(60..500)), rng).0 as f64)),
        4 => Fault::GuestFrequency(KernelClock {
            frequency: Ppb(0.0),
            tick_us: rng.i64(9_000..=11_000),
        }),
        5..7 if may_move => {
            let hints = [
                None,
                Some(DetectedBy::Kick),
                Some(DetectedBy::Vmgenid),
                Some(DetectedBy::Vmclock),
            ];
            let span = span(rng) + large;
            plan.push((*at, Fault::Pause(span, hints[rng.usize(0..hints.len())])));
            *at += span.0 + rng.i64(SPACING..2 * SPACING);
            return honest;
        }
        7 if may_move => Fault::HostStep(either(span(rng) + large, rng)),
        8..10 if kind != Kind::RtcOnly => {
            let behaviour = bad_behaviour(kind, *at, rng);
            plan.push((*at, Fault::Behaviour(0, behaviour)));
            let guest = Fault::GuestStep(either(span(rng), rng));
            plan.push((*at + SECOND, guest));
            *at += rng.i64(2 * SECOND..2 * SPACING);
            plan.push((*at, Fault::Behaviour(0, Behaviour::Truechimer)));
            *at += SPACING;
            // A machine with nothing finer than the RTC beside a source that it no longer
            // believes cannot see that it was paused.
            return honest && kind == Kind::Hypervisor;
        }
        _ => Fault::GuestStep(either(span(rng), rng)),
    };
    plan.push((*at, fault));
    *at += rng.i64(SPACING..2 * SPACING);
    honest
}

/// A way for the first source to go wrong that a machine of this kind can see through.
fn bad_behaviour(kind: Kind, at: i64, rng: &mut Rng) -> Behaviour {
    let hour = Nanos::from_secs(3_600);
    match rng.u32(0..8) {
        0 => Behaviour::Absent,
        1 => Behaviour::Refused,
        2 => Behaviour::Silent,
        3 => Behaviour::Garbage,
        4 => Behaviour::Outliers {
            one_in: rng.u32(50..500),
            by: hour,
        },
        5 if kind == Kind::Channel => Behaviour::Off(hour),
        6 if kind == Kind::Channel => Behaviour::Drifting {
            rate: Ppb(1_000_000.0),
            since: at,
        },
        7 if kind == Kind::Channel => Behaviour::Late(Nanos::from_millis(rng.i64(5..300))),
        _ => Behaviour::Absent,
    }
}

/// Watches a world against its truth.
#[derive(Debug, Default)]
pub struct Judge {
    excused_until: i64,
    complaint: Option<String>,
    steps_seen: usize,
    disrupted_since: Option<Nanos>,
    rate_unknown_until: Nanos,
}

impl Judge {
    /// Until when the clock may be wrong after a fault that moves clocks.
    pub fn excuse(&mut self, world: &World, fault: &Fault, followed: Option<Source>) {
        let immediate = followed.is_some_and(|source| source.is_immediate());
        let millis = match (fault, immediate) {
            (Fault::GuestStep(_), _) => 10,
            (Fault::GuestFrequency(_), _) => 60,
            (Fault::Pause(..) | Fault::HostStep(_), true) => 80,
            (Fault::Pause(..) | Fault::HostStep(_), false) => 2_500,
            // What a drift adds before it shows is within the source's own bound.
            (Fault::Behaviour(_, Behaviour::Drifting { .. }), _) => 2_000,
            (Fault::Behaviour(..), _) => 0,
        };
        if let Fault::GuestFrequency(_) = fault {
            self.rate_unknown_until = Nanos(world.clocks.now()) + Nanos::from_secs(5);
        }
        let until = world.clocks.now() + millis * 1_000_000;
        self.excused_until = self.excused_until.max(until);
    }

    pub fn check(&mut self, world: &mut World) {
        if self.complaint.is_some() {
            return;
        }
        self.check_steps(world);
        let state = world.engine.state();
        if world.clocks.now() < self.excused_until || state == State::Unsynced {
            return;
        }
        let (error, bound) = (world.clocks.error(), world.bound());
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
        }
        self.steps_seen = world.steps.len();
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
