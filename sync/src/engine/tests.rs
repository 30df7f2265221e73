//! A glance and a full look must never disagree on what is quiet.

use alloc::vec::Vec;

use noonmark_contract::config::ClockConfig;
use noonmark_contract::record::DetectedBy;
use noonmark_contract::sample::{Method, Reading, Source};
use noonmark_contract::units::{Ppb, Utc};
use proptest::prelude::*;

use crate::discipline::guest_clocks;
use crate::envelope::HORIZON;

use super::*;

const START: i64 = 1_800_000_000_000_000_000;
const TICK: Nanos = Nanos::from_millis(20);

/// A machine whose reference gains `reference_ppb` on RAW, and whose clock runs as it is told to.
struct Machine {
    engine: Engine,
    now: Raw,
    reference_ppb: f64,
    realtime: Utc,
    kernel: KernelClock,
}

impl Machine {
    /// After ten seconds without disturbance.
    fn settled(reference_ppb: f64) -> Self {
        let config = ClockConfig {
            sources: [Source::Kvm].into(),
            ..ClockConfig::default()
        };
        let mut machine = Self {
            engine: Engine::new(config, Utc(0), Raw(0)),
            now: Raw(0),
            reference_ppb,
            realtime: Utc(START),
            kernel: KernelClock::NOMINAL,
        };
        let _ = machine.look(DetectedBy::Boot, (0, 0));
        for _ in 0..500 {
            machine.pass(TICK);
            let _ = machine.look(DetectedBy::WatchTick, (0, 0));
        }
        machine
    }

    /// Lets a tick pass, as often as it takes until glances may do, and `ticks` more.
    fn rest(&mut self, ticks: usize) {
        for _ in 0..50 {
            self.pass(TICK);
            if self.engine.glimpse(self.now).is_some() {
                break;
            }
            let _ = self.look(DetectedBy::WatchTick, (0, 0));
        }
        self.pass(Nanos(TICK.0 * ticks as i64));
    }

    fn pass(&mut self, span: Nanos) {
        self.now = self.now + span;
        self.realtime = self.realtime + span + self.kernel.rate().over(span);
    }

    /// A reading with this error of the reference, and with a clock that was moved.
    fn reading(&self, (error_ns, moved_ns): (i64, i64)) -> Reading {
        let span = self.now - Raw(0);
        Reading {
            source: Source::Kvm,
            method: Method::Precise,
            reference: Utc(START) + span + Ppb(self.reference_ppb).over(span) + Nanos(error_ns),
            realtime: self.realtime + Nanos(moved_ns),
            raw: self.now,
            bound: Nanos(10),
        }
    }

    /// A full look; gives what it made the shell do, reading and waking aside.
    fn look(&mut self, by: DetectedBy, seen: (i64, i64)) -> Vec<Action> {
        let mut done = Vec::new();
        let mut inputs = alloc::vec![Input::Wake(by)];
        while let Some(input) = inputs.pop() {
            let mut actions = Vec::new();
            self.engine.handle(self.now, input, &mut actions);
            for action in actions {
                match &action {
                    Action::WakeAt(_) => {}
                    Action::Read(source) => {
                        inputs.push(Input::Read(source.clone(), Ok(self.reading(seen))));
                    }
                    Action::ReadLocal => {
                        inputs.push(Input::Local(guest_clocks(&self.reading(seen))))
                    }
                    Action::ReadKernel => {
                        inputs.push(Input::Kernel(Ok(self.kernel)));
                        done.push(action);
                    }
                    Action::Step(by) => {
                        self.realtime = self.realtime + *by;
                        inputs.push(Input::Adjusted(Ok(())));
                        done.push(action);
                    }
                    Action::SetFrequency(kernel) => {
                        self.kernel = *kernel;
                        inputs.push(Input::Adjusted(Ok(())));
                        done.push(action);
                    }
                    Action::Emit(_) => done.push(action),
                }
            }
        }
        done
    }

    /// Whether a glance finds nothing.
    fn glances(&mut self, seen: (i64, i64)) -> bool {
        assert!(self.engine.glimpse(self.now).is_some());
        let reading = self.reading(seen);
        self.engine.glance(&reading).is_some()
    }
}

/// Errors from nothing to an hour, most of them about as large as what is allowed.
fn error_ns() -> impl Strategy<Value = i64> {
    (0_u32..42, any::<bool>(), 0_i64..1_000).prop_map(|(shift, negative, rest)| {
        let size = (1_i64 << shift) + rest % (1 << shift);
        if negative { -size } else { size }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever a full look would act on, a glance leaves to it.
    #[test]
    fn what_a_glance_passes_a_full_look_has_nothing_to_do_about(
        reference_ppb in -90_000.0..90_000.0,
        ticks in 0_usize..8,
        error in error_ns(),
        moved in error_ns(),
        both in 0..3,
    ) {
        let seen = match both {
            0 => (error, 0),
            1 => (0, moved),
            _ => (error, moved),
        };
        let mut glancing = Machine::settled(reference_ppb);
        let mut looking = Machine::settled(reference_ppb);
        glancing.rest(ticks);
        looking.rest(ticks);
        if glancing.glances(seen) {
            let done = looking.look(DetectedBy::WatchTick, seen);
            prop_assert_eq!(done, []);
        }
    }
}

#[test]
fn a_quiet_clock_is_told_by_a_glance() {
    let mut machine = Machine::settled(23_400.0);
    machine.rest(0);
    for tick in 0..5 {
        assert!(machine.glances((0, 0)), "tick {tick}");
        machine.pass(TICK);
    }
}

#[test]
fn what_glances_read_counts_as_readings() {
    let mut machine = Machine::settled(23_400.0);
    machine.rest(0);
    let before = machine.engine.status(machine.now).sources[0].good;
    assert!(machine.glances((3, 0)));
    assert!(machine.engine.status(machine.now).since_good_ns == Nanos::ZERO);
    machine.pass(TICK);
    let _ = machine.look(DetectedBy::WatchTick, (0, 0));
    let after = machine.engine.status(machine.now).sources[0].good;
    assert_eq!(after - before, 2);
}

#[test]
fn a_pause_a_step_and_a_foreign_rate_of_one_tick_are_worth_a_full_look() {
    let half_a_permille = Ppb(500_000.0).over(TICK).0;
    for seen in [
        (50_000_000, 0),
        (0, 1_000),
        (0, half_a_permille),
        (0, -half_a_permille),
    ] {
        let mut machine = Machine::settled(23_400.0);
        machine.rest(3);
        assert!(!machine.glances(seen), "{seen:?}");
    }
}

#[test]
fn after_a_while_a_full_look_is_due_in_any_case() {
    let mut machine = Machine::settled(23_400.0);
    machine.rest(0);
    machine.pass(HORIZON);
    assert_eq!(machine.engine.glimpse(machine.now), None);
}

#[test]
fn nothing_is_expected_of_a_clock_that_is_not_synced() {
    let config = ClockConfig {
        sources: [Source::Kvm].into(),
        ..ClockConfig::default()
    };
    let mut engine = Engine::new(config, Utc(0), Raw(0));
    assert_eq!(engine.glimpse(Raw(1)), None);
}

#[test]
fn the_jitter_is_that_of_the_last_readings_glances_included() {
    let mut machine = Machine::settled(23_400.0);
    machine.rest(0);
    let before = machine.engine.jitter();
    for tick in 0..6 {
        assert!(machine.glances((0, 40 * (tick % 2))), "tick {tick}");
        machine.pass(TICK);
    }
    assert!(machine.engine.jitter() > before, "{before}");
}

/// Lets the machine's clock be set while the shell carries out nothing but readings, as after too many
/// rounds of actions.
fn set_and_not_repaired(machine: &mut Machine) {
    machine.pass(TICK);
    machine.realtime = machine.realtime + Nanos::from_secs(1);
    let mut inputs = alloc::vec![Input::Wake(DetectedBy::CancelOnSet)];
    while let Some(input) = inputs.pop() {
        let mut actions = Vec::new();
        machine.engine.handle(machine.now, input, &mut actions);
        for action in actions {
            if let Action::Read(source) = action {
                let reading = machine.reading((0, 0));
                inputs.push(Input::Read(source, Ok(reading)));
            }
        }
    }
}

#[test]
fn actions_that_are_never_carried_out_do_not_keep_the_clock_from_being_repaired() {
    let mut machine = Machine::settled(23_400.0);
    set_and_not_repaired(&mut machine);
    machine.engine.abandon(machine.now);
    machine.pass(TICK);
    let done = machine.look(DetectedBy::WatchTick, (0, 0));
    let stepped = |action: &Action| matches!(action, Action::Step(by) if by.0 < -999_000_000);
    assert!(done.iter().any(stepped), "{done:?}");
    assert_eq!(machine.engine.state(), State::Synced);
}

/// How far the clock is off 20 ms after a disturbance was noticed that took effect for one tick.
fn left_after(disturb: impl FnOnce(&mut Machine), by: DetectedBy) -> Nanos {
    let mut machine = Machine::settled(23_400.0);
    disturb(&mut machine);
    machine.pass(TICK);
    let mut done = machine.look(by, (0, 0));
    for _ in 0..2 {
        machine.pass(Nanos::from_millis(10));
        done.extend(machine.look(DetectedBy::WatchTick, (0, 0)));
    }
    let stepped = |action: &Action| matches!(action, Action::Step(_));
    assert!(!done.iter().any(stepped), "{done:?}");
    let reading = machine.reading((0, 0));
    (reading.reference - reading.realtime).abs()
}

#[test]
fn what_a_foreign_rate_or_a_small_step_leaves_is_slewed_away_at_once() {
    let rated = |machine: &mut Machine| machine.kernel.frequency.0 += 450_000.0;
    assert!(left_after(rated, DetectedBy::WatchTick) < Nanos(100));
    let set = |machine: &mut Machine| machine.realtime = machine.realtime + Nanos::from_micros(60);
    assert!(left_after(set, DetectedBy::CancelOnSet) < Nanos(100));
}
