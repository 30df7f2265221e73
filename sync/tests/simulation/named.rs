//! The nastiest lives, by name, and the figures that the quiet ones must reach.

use fastrand::Rng;
use noonmark_contract::record::{Alert, Cause, DetectedBy, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Ppb};
use noonmark_sync::engine::KernelClock;

use crate::machine::{
    CHANNEL, HOUR, HYPERVISOR, MILLISECOND, OSCILLATOR, booting, causes, followed, has_alert,
    settled, time_wrong, worst_error,
};
use crate::scenario::SECOND;
use crate::sources::Behaviour;
use crate::world::{Fault, World, rate};

/// RMS and largest true error over ten minutes, after one minute of settling.
fn quiet_error(sources: &[Source]) -> (f64, Nanos) {
    let mut world = settled(sources);
    world.run(60 * SECOND, |_| ());
    let (mut sum, mut count, mut worst) = (0.0, 0.0, Nanos::ZERO);
    world.run(660 * SECOND, |world| {
        let error = world.clocks.error();
        assert!(error.abs() <= world.bound(), "{error} is outside the bound");
        sum += (error.0 as f64).powi(2);
        count += 1.0;
        worst = worst.max(error.abs());
    });
    assert!(world.engine.status(world.clocks.raw()).availability > 0.999_999);
    ((sum / count).sqrt(), worst)
}

/// The median of the bound, and the true error's RMS, over two minutes after one.
fn bound_and_error(sources: &[Source]) -> (Nanos, f64) {
    let mut world = settled(sources);
    world.run(80 * SECOND, |_| ());
    let (mut bounds, mut squares) = (Vec::new(), 0.0);
    world.run(200 * SECOND, |world| {
        bounds.push(world.bound());
        squares += (world.clocks.error().0 as f64).powi(2);
    });
    bounds.sort_unstable();
    let rms = f64::sqrt(squares / bounds.len() as f64);
    (bounds[bounds.len() / 2], rms)
}

#[test]
fn a_bound_is_no_wider_than_about_ten_times_the_true_error() {
    // The channel's is half the shortest round trip, which may all have been on the way there.
    for (sources, times) in [(&[Source::Kvm][..], 10.0), (&CHANNEL[..], 12.0)] {
        let (bound, rms) = bound_and_error(sources);
        println!("{sources:?}: median bound {bound}, RMS {rms:.1} ns");
        let most = Nanos((times * rms) as i64);
        assert!(bound <= most, "{sources:?}: {bound} for an RMS of {rms} ns");
    }
}

#[test]
fn a_quiet_clock_on_the_hypervisors_phc_stays_within_nanoseconds() {
    let (rms, worst) = quiet_error(&[Source::Kvm]);
    println!("rms {rms} ns, worst {worst}");
    assert!(rms <= 3.0, "RMS {rms} ns");
    assert!(worst <= Nanos(20), "worst {worst}");
}

#[test]
fn the_hypervisors_phc_is_followed_to_nanoseconds_within_ten_seconds_of_boot() {
    let mut world = booting(&[Source::Kvm]);
    world.boot();
    world.run(10 * SECOND, |_| ());
    let worst = worst_error(&mut world, 50 * SECOND);
    assert!(worst <= Nanos(40), "worst {worst}");
}

#[test]
fn a_quiet_clock_on_the_hosts_channel_stays_within_tens_of_microseconds() {
    let (rms, worst) = quiet_error(&CHANNEL);
    println!("rms {rms} ns, worst {worst}");
    assert!(rms <= 20_000.0, "RMS {rms} ns");
    assert!(worst <= Nanos::from_micros(100), "worst {worst}");
}

#[test]
fn a_set_clock_is_right_again_within_a_millisecond_whatever_the_source() {
    for sources in [&HYPERVISOR[..], &CHANNEL[..]] {
        for by in [
            HOUR,
            -HOUR,
            Nanos::from_millis(500),
            -Nanos::from_millis(50),
        ] {
            let mut world = settled(sources);
            let tolerance = Nanos::from_micros(100);
            let wrong = time_wrong(&mut world, Fault::GuestStep(by), tolerance);
            assert!(wrong <= Nanos::from_millis(1), "{sources:?} {by}: {wrong}");
            assert_eq!(causes(&world), [Cause::GuestStep], "{sources:?} {by}");
        }
    }
}

#[test]
fn a_set_clock_is_put_back_even_where_the_source_is_too_coarse_to_tell() {
    for by in [
        Nanos::from_millis(50),
        -Nanos::from_millis(50),
        Nanos::from_millis(2),
    ] {
        let mut world = settled(&[Source::Rtc]);
        assert!(world.bound() > by.abs(), "the source could tell");
        let before = world.clocks.error();
        world.fault(Fault::GuestStep(by));
        // A watch tick and some; what the clock is slewed by meanwhile is its own affair.
        let until = world.clocks.now() + 25 * MILLISECOND;
        world.run(until, |_| ());
        let moved = (world.clocks.error() - before).abs();
        assert!(moved <= Nanos::from_millis(1), "{by}: still off by {moved}");
        assert_eq!(causes(&world).last(), Some(&Cause::GuestStep), "{by}");
    }
}

#[test]
fn a_pause_is_over_for_the_clock_within_a_watch_tick_and_with_a_kick_at_once() {
    for (hint, limit) in [(None, 25), (Some(DetectedBy::Kick), 1)] {
        let mut world = settled(&HYPERVISOR);
        let pause = Fault::Pause(Nanos::from_secs(7), hint);
        let wrong = time_wrong(&mut world, pause, Nanos::from_micros(100));
        assert!(wrong <= Nanos::from_millis(limit), "{hint:?}: {wrong}");
        assert_eq!(causes(&world), [Cause::HostPause]);
    }
}

#[test]
fn a_pause_and_a_set_clock_in_one_are_both_repaired() {
    let mut world = settled(&HYPERVISOR);
    world.fault(Fault::GuestStep(-HOUR));
    let pause = Fault::Pause(Nanos::from_secs(7), None);
    let wrong = time_wrong(&mut world, pause, Nanos::from_micros(100));
    assert!(wrong <= Nanos::from_millis(25), "{wrong}");
    assert_eq!(world.engine.state(), State::Synced);
}

#[test]
fn a_foreign_rate_is_found_within_a_tick_and_never_costs_more_than_3_ms() {
    let tick = |tick_us| KernelClock {
        frequency: Ppb(0.0),
        tick_us,
    };
    for foreign in [rate(500.0), rate(-500.0), tick(11_000), tick(9_000)] {
        let mut world = settled(&HYPERVISOR);
        let before = world.clocks.kernel();
        world.fault(Fault::GuestFrequency(foreign));
        let worst = worst_error(&mut world, 2 * SECOND);
        assert!(worst <= Nanos::from_millis(3), "{foreign:?}: {worst}");
        assert_eq!(causes(&world), [Cause::GuestFrequency], "{foreign:?}");
        // By then, what the foreign rate had made of the clock is slewed away too.
        world.run(30 * SECOND, |_| ());
        let after = world.clocks.kernel();
        let change = after.rate().0 - before.rate().0;
        assert!(change.abs() < 20.0, "the rate is {change} ppb from before");
    }
}

#[test]
fn a_host_that_sets_its_own_clock_back_is_followed() {
    let mut world = settled(&HYPERVISOR);
    let back = Fault::HostStep(-HOUR);
    let wrong = time_wrong(&mut world, back, Nanos::from_micros(100));
    assert!(wrong <= Nanos::from_millis(25), "{wrong}");
    assert_eq!(causes(&world), [Cause::HostStep]);
}

#[test]
fn a_channel_an_hour_and_some_off_at_boot_is_refused_for_the_rtcs_sake() {
    let off = HOUR + Nanos::from_secs(420);
    let mut world = booting(&CHANNEL);
    world.fault(Fault::Behaviour(0, Behaviour::Off(off)));
    world.boot();
    world.run(30 * SECOND, |_| ());
    assert_eq!(followed(&world), Some(Source::Rtc));
    assert!(has_alert(&world, Alert::SourceLies));
    assert!(world.clocks.error().abs() <= Nanos::from_secs(1));
}

#[test]
fn an_rtc_years_off_at_boot_gives_way_to_the_channel_with_an_alert() {
    let years = Nanos::from_secs(5 * 365 * 86_400);
    for off in [years, -years, Nanos::from_secs(2 * 86_400)] {
        let mut world = World::new(&CHANNEL, OSCILLATOR, -off, Rng::with_seed(1));
        world.fault(Fault::Behaviour(1, Behaviour::Off(off)));
        world.boot();
        world.run(10 * SECOND, |_| ());
        assert_eq!(followed(&world), Some(Source::Host), "{off}");
        assert!(world.clocks.error().abs() <= Nanos::from_millis(1), "{off}");
        assert_eq!(world.steps.len(), 1, "{off}");
        // An RTC before the image's date says nothing at all.
        let is_falseticker = off > Nanos::ZERO;
        assert_eq!(
            has_alert(&world, Alert::SourceLies),
            is_falseticker,
            "{off}"
        );
    }
}

#[test]
fn a_drift_that_begins_after_an_hour_is_found_as_soon_as_one_at_the_start() {
    let mut world = settled(&CHANNEL);
    world.run(3_600 * SECOND, |_| ());
    for rate in [Ppb(1_000_000.0), Ppb(-200_000.0)] {
        let (steps, since) = (world.steps.len(), world.clocks.now());
        world.fault(Fault::Behaviour(0, Behaviour::Drifting { rate, since }));
        let mut worst = worst_error(&mut world, 5 * SECOND);
        assert_ne!(followed(&world), Some(Source::Host), "{rate}");
        worst = worst.max(worst_error(&mut world, 60 * SECOND));
        assert!(worst <= Nanos::from_millis(2), "{rate}: {worst}");
        assert_eq!(world.steps.len(), steps, "{rate}: a wrong step");
        assert!(has_alert(&world, Alert::SourceLies), "{rate}");
        // It is followed again once it has proven itself, and not before it is a truechimer.
        world.fault(Fault::Behaviour(0, Behaviour::Truechimer));
        world.run(world.clocks.now() + 60 * SECOND, |_| ());
        assert_eq!(followed(&world), Some(Source::Host), "{rate}");
        for step in &world.steps[steps..] {
            assert!(step.after.abs() < step.before.abs(), "{rate}: {step:?}");
        }
    }
}

#[test]
fn a_channel_that_turns_falseticker_is_left_within_a_second_and_takes_the_clock_nowhere() {
    let drifting = Behaviour::Drifting {
        rate: Ppb(1_000_000.0),
        since: 20 * SECOND,
    };
    let falsetickers = [
        (Behaviour::Off(HOUR), Alert::SourceLies),
        (drifting, Alert::SourceLies),
        (Behaviour::Garbage, Alert::SourceLies),
        (Behaviour::Silent, Alert::SourceLost),
        (Behaviour::Late(Nanos::from_millis(900)), Alert::SourceLost),
    ];
    for (falseticker, alert) in falsetickers {
        let mut world = settled(&CHANNEL);
        let steps = world.steps.len();
        world.fault(Fault::Behaviour(0, falseticker));
        let mut worst = worst_error(&mut world, SECOND);
        assert_ne!(followed(&world), Some(Source::Host), "{falseticker:?}");
        assert!(has_alert(&world, alert), "{falseticker:?}");
        worst = worst.max(worst_error(&mut world, 60 * SECOND));
        assert!(worst <= Nanos::from_millis(1), "{falseticker:?}: {worst}");
        assert_eq!(world.steps.len(), steps, "{falseticker:?}: a wrong step");
    }
}

#[test]
fn a_channel_that_begins_to_drift_is_left_whenever_it_begins() {
    for seed in 0..200 {
        let mut rng = Rng::with_seed(seed);
        let behind = Nanos::from_millis(300);
        let mut world = World::new(&CHANNEL, OSCILLATOR, behind, rng.fork());
        world.boot();
        world.run(rng.i64(3 * SECOND..30 * SECOND), |_| ());
        let (steps, since) = (world.steps.len(), world.clocks.now());
        let rate = Ppb(if rng.bool() { 1e6 } else { -1e6 });
        world.fault(Fault::Behaviour(0, Behaviour::Drifting { rate, since }));
        let mut worst = worst_error(&mut world, SECOND);
        assert_ne!(followed(&world), Some(Source::Host), "seed {seed}");
        worst = worst.max(worst_error(&mut world, 14 * SECOND));
        assert!(worst <= Nanos::from_millis(1), "seed {seed}: {worst}");
        for step in &world.steps[steps..] {
            assert!(
                step.after.abs() < step.before.abs(),
                "seed {seed}: {step:?}"
            );
        }
    }
}

#[test]
fn an_hour_without_any_source_keeps_the_bound_and_repairs_a_set_clock() {
    let mut world = settled(&[Source::Kvm]);
    world.run(120 * SECOND, |_| ());
    world.fault(Fault::Behaviour(0, Behaviour::Absent));
    let until = world.clocks.now() + 3_600 * SECOND;
    world.run(until, |world| {
        assert!(world.clocks.error().abs() <= world.bound());
    });
    assert_eq!(world.engine.state(), State::Holdover);
    assert!(has_alert(&world, Alert::LongHoldover));
    let error = world.clocks.error().abs();
    let set = Fault::GuestStep(Nanos::from_secs(86_400));
    let wrong = time_wrong(&mut world, set, error + Nanos::from_micros(100));
    assert!(wrong <= Nanos::from_millis(1), "{wrong}");
    world.fault(Fault::Behaviour(0, Behaviour::Truechimer));
    world.run(world.clocks.now() + 30 * SECOND, |_| ());
    assert_eq!(world.engine.state(), State::Synced);
    assert!(world.clocks.error().abs() <= Nanos::from_micros(1));
}

#[test]
fn a_phc_lost_in_a_restore_gives_way_to_the_channel_and_is_climbed_back_to() {
    let mut world = settled(&HYPERVISOR);
    world.fault(Fault::Behaviour(0, Behaviour::Refused));
    let away = Nanos::from_secs(90);
    world.fault(Fault::Pause(away, Some(DetectedBy::Vmgenid)));
    world.run(world.clocks.now() + SECOND, |_| ());
    assert_eq!(followed(&world), Some(Source::Host));
    assert!(world.clocks.error().abs() <= Nanos::from_millis(1));
    world.fault(Fault::Behaviour(0, Behaviour::Truechimer));
    world.run(world.clocks.now() + 30 * SECOND, |_| ());
    assert_eq!(followed(&world), Some(Source::Kvm));
    assert!(world.clocks.error().abs() <= Nanos::from_micros(1));
}

#[test]
fn a_rogue_that_sets_the_clock_every_millisecond_is_outlived() {
    let mut world = settled(&HYPERVISOR);
    for n in 0..1_000 {
        let by = Nanos::from_millis(if n % 2 == 0 { 700 } else { -350 });
        world.fault(Fault::GuestStep(by));
        world.run(world.clocks.now() + MILLISECOND, |_| ());
    }
    world.run(world.clocks.now() + 100 * MILLISECOND, |_| ());
    assert_eq!(world.engine.state(), State::Synced);
    assert!(world.clocks.error().abs() <= Nanos::from_micros(1));
}

#[test]
fn single_false_readings_are_never_stepped_to() {
    for sources in [&HYPERVISOR[..], &CHANNEL[..]] {
        let mut world = settled(sources);
        let outliers = Behaviour::Outliers {
            one_in: 20,
            by: HOUR,
        };
        world.fault(Fault::Behaviour(0, outliers));
        let steps = world.steps.len();
        let worst = worst_error(&mut world, 60 * SECOND);
        assert!(worst <= Nanos::from_millis(1), "{sources:?}: {worst}");
        assert_eq!(world.steps.len(), steps, "{sources:?}");
    }
}

/// Runs on for a second; whether the clock was ever suspected to be wrong, and whether it was wrong
/// and not suspected any more.
fn suspicion(world: &mut World) -> (bool, bool) {
    let (mut suspected, mut let_go) = (false, false);
    world.run(world.clocks.now() + SECOND, |world| {
        let wrong = world.clocks.error().abs() > Nanos::from_millis(20);
        let suspected_now = world.engine.state() == State::Disrupted
            || world.engine.suspects_clock(world.clocks.raw());
        suspected |= suspected_now;
        let_go |= suspected && wrong && !suspected_now;
    });
    assert!(!world.engine.suspects_clock(world.clocks.raw()));
    (suspected, let_go)
}

#[test]
fn a_restored_clock_is_suspected_from_the_first_sign_until_it_is_right() {
    let away = Nanos::from_secs(10);
    for hint in [None, Some(DetectedBy::Vmgenid), Some(DetectedBy::Kick)] {
        let mut world = settled(&CHANNEL);
        world.fault(Fault::Pause(away, hint));
        let at_once = world.engine.suspects_clock(world.clocks.raw());
        assert_eq!(at_once, hint.is_some(), "{hint:?}");
        assert_eq!(suspicion(&mut world), (true, false), "{hint:?}");
        // A PHC's answer comes with the sign itself, and the repair with it.
        let mut world = settled(&HYPERVISOR);
        world.fault(Fault::Pause(away, hint));
        assert_eq!(suspicion(&mut world), (false, false), "{hint:?}");
    }
}

#[test]
fn a_reference_that_moved_by_little_makes_no_clock_suspect() {
    let mut world = settled(&CHANNEL);
    world.fault(Fault::HostStep(Nanos::from_millis(5)));
    world.run(world.clocks.now() + 5 * SECOND, |world| {
        assert!(!world.engine.suspects_clock(world.clocks.raw()));
    });
    assert_eq!(causes(&world), [Cause::HostPauseOrStep]);
}

#[test]
fn a_machine_that_was_kicked_for_nothing_is_cleared_by_the_next_answer() {
    let mut world = settled(&CHANNEL);
    world.fault(Fault::Pause(Nanos::ZERO, Some(DetectedBy::Kick)));
    assert!(world.engine.suspects_clock(world.clocks.raw()));
    world.run(world.clocks.now() + 100 * MILLISECOND, |_| ());
    assert!(!world.engine.suspects_clock(world.clocks.raw()));
}

#[test]
fn a_small_move_of_a_channel_whose_rate_is_hardly_known_is_followed_and_the_bound_holds() {
    // While it is watched, what is expected grows so uncertain that it explains the move as well.
    for seed in 0..500 {
        let mut rng = Rng::with_seed(seed);
        let behind = Nanos::from_millis(300);
        let mut world = World::new(&CHANNEL, OSCILLATOR, behind, rng.fork());
        world.boot();
        world.run(rng.i64(4 * SECOND..12 * SECOND), |_| ());
        let by = Nanos::from_micros(rng.i64(150..600));
        world.fault(Fault::HostStep(if rng.bool() { by } else { -by }));
        let moved = world.clocks.now();
        world.run(moved + 2 * SECOND + 500 * MILLISECOND, |_| ());
        world.run(moved + 10 * SECOND, |world| {
            let (error, bound) = (world.clocks.error().abs(), world.bound());
            assert!(error <= bound, "seed {seed}: {error} is outside {bound}");
        });
    }
}

#[test]
fn a_clock_that_is_set_while_its_source_is_suspect_is_right_again_at_once() {
    // A small move is watched for up to 4 s.
    for us in [3, 6, 10, 15, 25, 40, 100, 400] {
        let mut world = settled(&[Source::Phc("igb".into()), Source::Rtc]);
        world.fault(Fault::HostStep(Nanos::from_micros(us)));
        world.run(world.clocks.now() + 200 * MILLISECOND, |_| ());
        let set = Fault::GuestStep(Nanos::from_millis(800));
        let wrong = time_wrong(&mut world, set, Nanos::from_micros(500));
        assert!(wrong <= Nanos::from_millis(1), "{us} us: {wrong}");
        assert_eq!(causes(&world).first(), Some(&Cause::GuestStep), "{us} us");
    }
}

#[test]
fn a_step_is_not_undone_by_a_slew_that_was_in_force_before_it() {
    // So early a step of the host may be its rate, which the channel's next readings refute.
    for seed in 0..200 {
        let mut rng = Rng::with_seed(seed);
        let behind = Nanos::from_millis(300);
        let mut world = World::new(&CHANNEL, OSCILLATOR, behind, rng.fork());
        world.boot();
        world.run(rng.i64(SECOND..4 * SECOND), |_| ());
        let (steps, by) = (world.steps.len(), Nanos::from_millis(20));
        world.fault(Fault::HostStep(if rng.bool() { by } else { -by }));
        world.run(world.clocks.now() + 2 * SECOND, |_| ());
        let error = world.clocks.error().abs();
        assert!(error <= Nanos::from_millis(1), "seed {seed}: {error}");
        assert!(world.steps.len() <= steps + 4, "seed {seed}");
        assert_eq!(world.engine.state(), State::Synced, "seed {seed}");
    }
}
