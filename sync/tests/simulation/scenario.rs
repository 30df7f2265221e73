//! Random lives of a machine, each grown from its seed. What must hold in all of them is `judge`'s.

use fastrand::Rng;
use noonmark_contract::record::DetectedBy;
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Ppb};
use noonmark_sync::engine::KernelClock;

use crate::clocks::Oscillator;
use crate::host_clock::Correction;
use crate::judge::Judge;
use crate::sources::Behaviour;
use crate::width::Widths;
use crate::world::{Fault, World, rate};

/// One second of physical time.
pub const SECOND: i64 = 1_000_000_000;

/// Every fault has at least this long to itself.
const SPACING: i64 = 3 * SECOND;

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

    /// Lives it, and says what did not hold; adds to `widths`, and with `trace` prints what the engine
    /// reported.
    pub fn run(&self, trace: bool, widths: &mut Widths) -> Result<(), String> {
        let rng = Rng::with_seed(self.seed ^ 0x5eed);
        let mut world = World::new(&self.sources, self.oscillator, self.offset, rng);
        let mut judge = Judge::default();
        world.boot();
        for (at, fault) in &self.plan {
            world.run(*at, |world| judge.check(world));
            let followed = world.engine.status(world.clocks.raw()).source;
            world.fault(*fault);
            judge.excuse(&world, fault, followed.as_ref());
        }
        world.run(self.ends, |world| judge.check(world));
        if trace {
            for (at, event) in &world.events {
                println!("{} {event:?}", Nanos(*at));
            }
        }
        widths.extend(judge.widths());
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
    let fault = match rng.u32(0..if honest { 15 } else { 10 }) {
        10.. => {
            let (fault, span) = host_moves(rng);
            plan.push((*at, fault));
            *at += span + rng.i64(SPACING..2 * SPACING);
            return honest;
        }
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
        7 if may_move => Fault::HostStep(either(span(rng), rng)),
        8..10 if kind != Kind::RtcOnly => {
            // Whose host's clock was slewed may have been let go for that, and what is known of its rate
            // with it: that it drifts, once it is back, nothing there can tell.
            let is_known = !plan
                .iter()
                .any(|(_, fault)| matches!(fault, Fault::HostRate(_)));
            let behaviour = bad_behaviour(kind, is_known, *at, rng);
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

/// A way for a host's clock to move that does nothing wrong, and how long it takes.
fn host_moves(rng: &mut Rng) -> (Fault, i64) {
    let sign = if rng.bool() { 1.0 } else { -1.0 };
    // From 5 to 500 ppm, and from there to the most that chronyd slews by.
    let ordinary = Ppb(sign * 5_000.0 * 100_f64.powf(rng.f64()));
    let fast = Ppb(sign * 500_000.0 * 166.666_f64.powf(rng.f64()));
    let slew = |rate, span| {
        let correction = Correction::Slew { rate, span };
        (Fault::HostRate(correction), span)
    };
    match rng.u32(0..6) {
        0..2 => (Fault::HostRate(Correction::Rate(ordinary)), 0),
        2 => slew(fast, rng.i64(SECOND / 1_000..2 * SECOND)),
        3 => slew(Ppb(sign * 500_000.0), rng.i64(SECOND..10 * SECOND)),
        4 => {
            let share = 0.5 + 0.4 * rng.f64();
            let rate = ordinary;
            (Fault::HostRate(Correction::Pll { rate, share }), 5 * SECOND)
        }
        _ => {
            let away = Nanos(rng.i64(SECOND / 100..2 * SECOND));
            let ahead = Nanos(rng.i64(-3 * SECOND..3 * SECOND));
            let hints = [DetectedBy::Vmgenid, DetectedBy::Vmclock, DetectedBy::Kick];
            let by = hints[rng.usize(0..hints.len())];
            (Fault::Migrate(away, ahead, ordinary, by), away.0)
        }
    }
}

/// A way for the first source to go wrong that a machine of this kind can see through.
fn bad_behaviour(kind: Kind, is_rate_known: bool, at: i64, rng: &mut Rng) -> Behaviour {
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
        6 if kind == Kind::Channel && is_rate_known => Behaviour::Drifting {
            rate: Ppb(1_000_000.0),
            since: at,
        },
        7 if kind == Kind::Channel => Behaviour::Late(Nanos::from_millis(rng.i64(5..300))),
        _ => Behaviour::Absent,
    }
}
