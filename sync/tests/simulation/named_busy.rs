//! Machines that have more to do than their processors manage: PID 1 is woken late.

use fastrand::Rng;
use noonmark_contract::units::Nanos;

use crate::machine::{HYPERVISOR, MILLISECOND, OSCILLATOR, worst_error};
use crate::scenario::SECOND;
use crate::world::{Fault, World, rate};

#[test]
fn a_slew_does_not_overshoot_where_pid_1_is_woken_late_again_and_again() {
    for seed in 0..100 {
        let behind = Nanos::from_millis(300);
        let mut world = World::new(&HYPERVISOR, OSCILLATOR, behind, Rng::with_seed(seed));
        world.late = 0..70 * MILLISECOND;
        world.boot();
        world.run(20 * SECOND, |_| ());
        // Found some 45 us off on average; slews for 10 ms that last 45 ms would make that more.
        world.fault(Fault::GuestFrequency(rate(500_000.0)));
        world.run(world.clocks.now() + 300 * MILLISECOND, |_| ());
        let worst = worst_error(&mut world, SECOND);
        assert!(worst <= Nanos::from_micros(25), "seed {seed}: {worst}");
        let worst = worst_error(&mut world, SECOND);
        assert!(worst <= Nanos::from_micros(1), "seed {seed}: {worst} later");
    }
}
