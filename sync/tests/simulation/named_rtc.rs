//! Machines whose RTC is wrong, and those whose counter is.

use fastrand::Rng;
use noonmark_contract::record::{Alert, DetectedBy, Event, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::Nanos;

use crate::clocks::Oscillator;
use crate::machine::{CHANNEL, HOUR, OSCILLATOR, followed, has_alert, settled};
use crate::scenario::SECOND;
use crate::sources::Behaviour;
use crate::world::{Fault, World};

const NETWORK: [Source; 2] = [Source::Ntp, Source::Rtc];

/// A machine whose clock, as found, is what its RTC says, which is `off`.
fn by_its_rtc(sources: &[Source], off: Nanos) -> World {
    let mut world = World::new(sources, OSCILLATOR, -off, Rng::with_seed(3));
    world.fault(Fault::Behaviour(sources.len() - 1, Behaviour::Off(off)));
    world
}

#[test]
fn an_rtc_that_keeps_local_time_gives_way_to_the_channel_with_an_alert_that_says_so() {
    for quarters in [20, -32, 23, -13, 4] {
        let off = Nanos::from_secs(900 * quarters);
        let mut world = by_its_rtc(&CHANNEL, off);
        world.boot();
        world.run(10 * SECOND, |_| ());
        assert_eq!(followed(&world), Some(Source::Host), "{off}");
        assert!(world.clocks.error().abs() <= Nanos::from_millis(1), "{off}");
        let told = world.events.iter().any(|(_, event)| {
            matches!(event, Event::Alert { alert: Alert::SourceLies, why, .. } if why.contains("local time"))
        });
        assert!(told, "{off}: {:?}", world.events);
    }
}

#[test]
fn time_servers_are_followed_whatever_the_rtc_says() {
    for off in [
        Nanos::from_secs(7),
        -Nanos::from_secs(7),
        HOUR,
        Nanos::from_secs(73 * 365 * 86_400),
    ] {
        let mut world = by_its_rtc(&NETWORK, off);
        world.boot();
        world.run(SECOND, |_| ());
        assert_eq!(followed(&world), Some(Source::Ntp), "{off}");
        assert!(world.clocks.error().abs() <= Nanos::from_millis(1), "{off}");
        world.run(120 * SECOND, |_| ());
        assert_eq!(followed(&world), Some(Source::Ntp), "{off}");
        assert!(!has_alert(&world, Alert::SourceLies), "{off}");
    }
}

#[test]
fn nothing_is_synced_on_the_rtc_while_time_servers_may_still_answer() {
    let off = -Nanos::from_secs(40);
    let mut world = by_its_rtc(&NETWORK, off);
    world.fault(Fault::Behaviour(0, Behaviour::Absent));
    world.boot();
    world.run(9 * SECOND, |world| {
        assert_eq!(world.engine.state(), State::Unsynced);
    });
    world.fault(Fault::Behaviour(0, Behaviour::Truechimer));
    world.run(20 * SECOND, |_| ());
    assert_eq!(followed(&world), Some(Source::Ntp));
    assert_eq!(world.steps.len(), 1);

    // After the grace the RTC is better than nothing, and what it says provisional.
    let mut world = by_its_rtc(&NETWORK, -off);
    world.fault(Fault::Behaviour(0, Behaviour::Absent));
    world.boot();
    world.run(30 * SECOND, |_| ());
    assert_eq!(followed(&world), Some(Source::Rtc));
    world.fault(Fault::Behaviour(0, Behaviour::Truechimer));
    world.run(80 * SECOND, |_| ());
    assert_eq!(followed(&world), Some(Source::Ntp));
    assert!(world.clocks.error().abs() <= Nanos::from_millis(1));
}

#[test]
fn a_machine_that_lacks_all_better_sources_is_synced_on_the_rtc_at_once() {
    let mut world = by_its_rtc(&CHANNEL, Nanos::ZERO);
    world.fault(Fault::Behaviour(0, Behaviour::Absent));
    world.boot();
    world.run(SECOND, |_| ());
    assert_eq!(world.engine.state(), State::Synced);
}

#[test]
fn an_rtc_that_stood_still_during_a_pause_does_not_outvote_the_host() {
    for hint in [None, Some(DetectedBy::Kick)] {
        let mut world = settled(&CHANNEL);
        let away = Nanos::from_secs(5);
        world.fault(Fault::Behaviour(1, Behaviour::Off(-away)));
        world.fault(Fault::Pause(away, hint));
        world.run(world.clocks.now() + 5 * SECOND, |_| ());
        assert_eq!(followed(&world), Some(Source::Host), "{hint:?}");
        assert!(
            world.clocks.error().abs() <= Nanos::from_millis(1),
            "{hint:?}"
        );
    }
}

#[test]
fn a_host_is_followed_by_a_machine_whose_counter_is_off_by_per_cents() {
    for percent in [1.0, -1.0, 3.0, -5.0] {
        let oscillator = Oscillator {
            drift_ppb: percent * 1e7,
            ..OSCILLATOR
        };
        let behind = Nanos::from_millis(300);
        let mut world = World::new(&CHANNEL, oscillator, behind, Rng::with_seed(1));
        world.boot();
        world.run(SECOND, |_| ());
        world.run(120 * SECOND, |world| {
            assert_eq!(followed(world), Some(Source::Host), "{percent} %");
            let (error, bound) = (world.clocks.error().abs(), world.bound());
            assert!(error <= bound, "{percent} %: {error} is outside {bound}");
        });
        assert!(!has_alert(&world, Alert::SourceLies), "{percent} %");
        let (error, bound) = (world.clocks.error().abs(), world.bound());
        assert!(error <= Nanos::from_micros(100), "{percent} %: {error}");
        assert!(bound <= Nanos::from_millis(1), "{percent} %: {bound}");
    }
}
