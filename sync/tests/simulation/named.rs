//! The nastiest lives, by name, and the figures that the quiet ones must reach.

use fastrand::Rng;
use noonmark_sync::sample::Source;
use noonmark_sync::units::Nanos;

use crate::clocks::Oscillator;
use crate::scenario::SECOND;
use crate::world::World;

const OSCILLATOR: Oscillator = Oscillator {
    drift_ppb: 23_400.0,
    wander_ppb: 1.0,
    bias_ppb: 45.0,
};

/// RMS of the true error between two instants, and the largest.
fn quiet_error(sources: &[Source], from: i64, to: i64) -> (f64, Nanos) {
    let mut world = World::new(
        sources,
        OSCILLATOR,
        Nanos::from_millis(300),
        Rng::with_seed(1),
    );
    world.boot();
    world.run(from, |_| ());
    let (mut sum, mut count, mut worst) = (0.0, 0.0, Nanos::ZERO);
    world.run(to, |world| {
        let error = world.clocks.error();
        assert!(error.abs() <= world.bound(), "{error} is outside the bound");
        sum += (error.0 as f64).powi(2);
        count += 1.0;
        worst = worst.max(error.abs());
    });
    ((sum / count).sqrt(), worst)
}

#[test]
fn a_quiet_clock_on_the_hypervisors_phc_stays_within_nanoseconds() {
    let (rms, worst) = quiet_error(&[Source::Kvm], 60 * SECOND, 660 * SECOND);
    println!("rms {rms} ns, worst {worst}");
    assert!(rms <= 3.0, "RMS {rms} ns");
    assert!(worst <= Nanos(20), "worst {worst}");
}

#[test]
fn a_quiet_clock_on_the_hosts_channel_stays_within_tens_of_microseconds() {
    let (rms, worst) = quiet_error(&[Source::Host, Source::Rtc], 60 * SECOND, 660 * SECOND);
    println!("rms {rms} ns, worst {worst}");
    assert!(rms <= 50_000.0, "RMS {rms} ns");
    assert!(worst <= Nanos::from_micros(150), "worst {worst}");
}
