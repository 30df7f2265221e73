//! What the named lives share: machines that have settled, and what is to be seen of them.

use fastrand::Rng;
use noonmark_contract::record::{Alert, Cause, Event, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::Nanos;

use crate::clocks::Oscillator;
use crate::scenario::SECOND;
use crate::world::{Fault, World};

pub const OSCILLATOR: Oscillator = Oscillator {
    drift_ppb: 23_400.0,
    wander_ppb: 1.0,
    bias_ppb: 45.0,
};

pub const MILLISECOND: i64 = 1_000_000;
pub const HOUR: Nanos = Nanos::from_secs(3_600);
pub const HYPERVISOR: [Source; 3] = [Source::Kvm, Source::Host, Source::Rtc];
pub const CHANNEL: [Source; 2] = [Source::Host, Source::Rtc];

/// Boots a machine whose clock is 300 ms behind and lets it settle for 20 s.
pub fn settled(sources: &[Source]) -> World {
    let mut world = booting(sources);
    world.boot();
    world.run(20 * SECOND, |_| ());
    assert_eq!(world.engine.state(), State::Synced);
    world
}

pub fn booting(sources: &[Source]) -> World {
    let behind = Nanos::from_millis(300);
    World::new(sources, OSCILLATOR, behind, Rng::with_seed(1))
}

/// The largest true error while the world runs on for `span`.
pub fn worst_error(world: &mut World, span: i64) -> Nanos {
    let mut worst = Nanos::ZERO;
    let until = world.clocks.now() + span;
    world.run(until, |world| worst = worst.max(world.clocks.error().abs()));
    worst
}

/// How long, after `fault`, the clock's true error stays above `tolerance`; the world runs on for
/// a second.
pub fn time_wrong(world: &mut World, fault: Fault, tolerance: Nanos) -> Nanos {
    world.fault(fault);
    let from = world.clocks.now();
    let mut last_wrong = from;
    world.run(from + SECOND, |world| {
        if world.clocks.error().abs() > tolerance {
            last_wrong = world.clocks.now();
        }
    });
    Nanos(last_wrong - from)
}

pub fn causes(world: &World) -> Vec<Cause> {
    let cause = |(_, event): &(i64, Event)| match event {
        Event::Recovered { cause, .. } => Some(*cause),
        _ => None,
    };
    world.events.iter().filter_map(cause).collect()
}

pub fn has_alert(world: &World, wanted: Alert) -> bool {
    let standing = |(_, event): &(i64, Event)| matches!(event, Event::Alert { alert, standing: true, .. } if *alert == wanted);
    world.events.iter().any(standing)
}

pub fn followed(world: &World) -> Option<Source> {
    world.engine.status(world.clocks.raw()).source
}
