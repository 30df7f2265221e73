//! The closed loop: the engine, a shell that carries out its actions, and the clocks they act on.

use std::collections::VecDeque;
use std::ops::Range;

use fastrand::Rng;
use noonmark_contract::config::ClockConfig;
use noonmark_contract::record::{DetectedBy, Event};
use noonmark_contract::sample::{Local, ReadFailure, Source};
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};
use noonmark_sync::engine::{Action, Engine, Glimpse, Input, KernelClock};

use crate::clocks::{Clocks, Oscillator};
use crate::host_clock::Correction;
use crate::sources::{self, Behaviour, Claim};

/// The image's date: some months before the simulation begins.
const BUILT: Utc = Utc(1_750_000_000_000_000_000);

/// Something done to the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Somebody in the guest sets the clock.
    GuestStep(Nanos),
    /// Somebody in the guest sets frequency and tick.
    GuestFrequency(KernelClock),
    /// The host stops the machine for this long; it may tell the guest so.
    Pause(Nanos, Option<DetectedBy>),
    /// The host's clock is set.
    HostStep(Nanos),
    /// The host's clock is corrected by its rate.
    HostRate(Correction),
    /// The machine stands still for this long and goes on under another host: its clock is this
    /// much ahead of the old one's, and its counter runs this much faster.
    Migrate(Nanos, Nanos, Ppb, DetectedBy),
    /// A source, by its place in the ladder, changes its behaviour.
    Behaviour(usize, Behaviour),
}

/// A step that the engine took, judged by the truth.
#[derive(Clone, Copy, Debug)]
pub struct StepTaken {
    /// The true error before it.
    pub before: Nanos,
    /// The true error after it.
    pub after: Nanos,
}

/// The machine.
pub struct World {
    pub clocks: Clocks,
    pub engine: Engine,
    pub steps: Vec<StepTaken>,
    /// What the engine told the host, by physical time.
    pub events: Vec<(i64, Event)>,
    /// Whether the machine's processor has a counter of its own.
    pub has_ticks: bool,
    /// How much later than asked for PID 1 is woken, in ns.
    pub late: Range<i64>,
    rng: Rng,
    sources: Vec<(Source, Behaviour)>,
    wake_at: Raw,
    /// An answer of a slow source under way.
    under_way: VecDeque<(i64, Source, Result<Claim, ReadFailure>)>,
    /// How long the machine stood still since that answer was given.
    stale: Nanos,
}

impl World {
    pub fn new(sources: &[Source], oscillator: Oscillator, offset: Nanos, mut rng: Rng) -> Self {
        let clocks = Clocks::new(oscillator, offset);
        let config = ClockConfig {
            sources: sources.to_vec(),
            ..ClockConfig::default()
        };
        let engine = Engine::new(config, BUILT, clocks.raw());
        let rng = rng.fork();
        Self {
            wake_at: clocks.raw(),
            clocks,
            engine,
            steps: Vec::new(),
            events: Vec::new(),
            has_ticks: sources.contains(&Source::Kvm),
            late: 5_000..150_000,
            rng,
            sources: sources
                .iter()
                .map(|s| (s.clone(), Behaviour::Truechimer))
                .collect(),
            under_way: VecDeque::new(),
            stale: Nanos::ZERO,
        }
    }

    /// PID 1 starts.
    pub fn boot(&mut self) {
        self.deliver(Input::Wake(DetectedBy::Boot));
    }

    /// Runs until physical time `until`, calling `check` after everything that happens.
    pub fn run(&mut self, until: i64, mut check: impl FnMut(&mut Self)) {
        while self.clocks.now() < until {
            self.next_event(until);
            check(self);
        }
    }

    pub fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::GuestStep(by) => self.clocks.step(by),
            Fault::GuestFrequency(clock) => {
                self.clocks
                    .set_frequency(clock)
                    .expect("the fault is one that the kernel takes");
            }
            Fault::Pause(span, hint) => {
                self.clocks.pause(span.0);
                self.stale += span;
                if let Some(by) = hint {
                    self.deliver(Input::Wake(by));
                }
            }
            Fault::HostStep(by) => self.clocks.step_host(by),
            Fault::HostRate(correction) => self.clocks.correct_host(correction),
            Fault::Migrate(span, ahead, rate, by) => {
                self.clocks.pause(span.0);
                self.clocks.step_host(ahead);
                self.clocks.migrate(rate);
                self.stale += span;
                self.deliver(Input::Wake(by));
            }
            Fault::Behaviour(at, behaviour) => self.sources[at].1 = behaviour,
        }
    }

    /// What the engine says its clock's error is at most.
    pub fn bound(&self) -> Nanos {
        self.engine.bound(self.clocks.raw())
    }

    fn next_event(&mut self, until: i64) {
        if self.clocks.take_was_set() {
            let latency = self.rng.i64(20_000..120_000);
            self.pass(latency);
            self.deliver(Input::Wake(DetectedBy::CancelOnSet));
            return;
        }
        let now = self.clocks.now();
        let late = self.rng.i64(self.late.clone());
        let tick = now + self.clocks.until(self.wake_at) + late;
        let answer = self.under_way.front().map_or(i64::MAX, |(at, ..)| *at);
        let next = tick.min(answer).min(until);
        self.pass(next - now);
        if next == answer {
            self.answer();
        } else if next == tick {
            self.tick();
        }
    }

    /// A watch tick, as PID 1 takes it: a glance where that does, else a full look.
    fn tick(&mut self) {
        match self.glance() {
            Some(next) => self.wake_at = next,
            None => self.deliver(Input::Wake(DetectedBy::WatchTick)),
        }
    }

    fn glance(&mut self) -> Option<Raw> {
        match self.engine.glimpse(self.clocks.raw())? {
            Glimpse::Local => {
                let local = self.read_local();
                self.engine.glance_local(&local)
            }
            Glimpse::Reading(source) => match self.read(source)? {
                Input::Read(_, Ok(reading)) => self.engine.glance(&reading),
                _ => None,
            },
        }
    }

    fn read_local(&mut self) -> Local {
        self.pass(1_000);
        let bound = self.rng.i64(20..400);
        let slip = self.rng.i64(-bound..=bound);
        Local {
            realtime: self.clocks.realtime(),
            raw: self.clocks.raw() + Nanos(slip),
            bound: Nanos(bound),
        }
    }

    fn answer(&mut self) {
        let Some((_, source, outcome)) = self.under_way.pop_front() else {
            return;
        };
        // An answer that was under way while the machine stood still may have been given before.
        let stale = if self.rng.bool() {
            self.stale
        } else {
            Nanos::ZERO
        };
        self.stale = Nanos::ZERO;
        let outcome = outcome.map(|claim| {
            let mut reading = claim.reading(source.clone(), &self.clocks);
            reading.reference = reading.reference - stale;
            reading
        });
        self.deliver(Input::Read(source, outcome));
    }

    fn deliver(&mut self, input: Input) {
        if self.has_ticks {
            let (raw, ticks) = (self.clocks.raw(), self.clocks.ticks());
            self.engine.note_ticks(raw, ticks);
        }
        let mut actions = Vec::new();
        self.engine.handle(self.clocks.raw(), input, &mut actions);
        let mut queue = VecDeque::from(actions);
        let mut done = 0;
        while let Some(action) = queue.pop_front() {
            done += 1;
            assert!(done < 200, "the engine never comes to rest: {action:?}");
            let Some(input) = self.carry_out(action) else {
                continue;
            };
            let mut more = Vec::new();
            self.engine.handle(self.clocks.raw(), input, &mut more);
            queue.extend(more);
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Read(source) => self.read(source),
            Action::ReadLocal => Some(Input::Local(self.read_local())),
            Action::ReadKernel => {
                self.pass(2_000);
                Some(Input::Kernel(Ok(self.clocks.kernel())))
            }
            Action::Step(by) => {
                self.pass(2_000);
                let before = self.clocks.error();
                self.clocks.step(by);
                let after = self.clocks.error();
                self.steps.push(StepTaken { before, after });
                Some(Input::Adjusted(Ok(())))
            }
            Action::SetFrequency(clock) => {
                self.pass(2_000);
                Some(Input::Adjusted(self.clocks.set_frequency(clock)))
            }
            Action::WakeAt(raw) => {
                self.wake_at = raw;
                None
            }
            Action::Emit(event) => {
                self.pass(5_000);
                self.events.push((self.clocks.now(), event));
                None
            }
        }
    }

    fn read(&mut self, source: Source) -> Option<Input> {
        let behaviour = self
            .sources
            .iter()
            .find(|(known, _)| *known == source)
            .map_or(Behaviour::Absent, |(_, behaviour)| *behaviour);
        let exchanges = self.engine.burst_exchanges();
        let now = self.clocks.now();
        let answer = sources::ask(&source, behaviour, exchanges, now, &mut self.rng);
        if source.is_immediate() || source == Source::Rtc {
            self.pass(answer.after);
            let outcome = answer
                .outcome
                .map(|claim| claim.reading(source.clone(), &self.clocks));
            return Some(Input::Read(source, outcome));
        }
        self.stale = Nanos::ZERO;
        self.under_way
            .push_back((now + answer.after, source, answer.outcome));
        None
    }

    fn pass(&mut self, ns: i64) {
        self.clocks.advance(ns, &mut self.rng);
    }
}

/// The settings of a clock that somebody else has given this rate.
pub fn rate(ppm: f64) -> KernelClock {
    KernelClock {
        frequency: Ppb(ppm * 1e3),
        tick_us: 10_000,
    }
}
