//! What an experiment is to do.

use std::time::Duration;

use noonmark_sync::units::Nanos;

use super::fault::Fault;

/// An experiment's plan. The same plan with the same seed does the same faults with the same
/// pauses between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The faults, in this order.
    pub faults: Vec<Fault>,
    /// Samples of each.
    pub count: u32,
    /// Of the pauses between samples.
    pub seed: u64,
    /// From this error on a read of the guest's clock counts as wrong.
    pub tolerance: Nanos,
    /// How long the clock must stay within tolerance before the observer believes it.
    pub settle: Nanos,
    /// The longest time to recover that still passes.
    pub max_recovery: Nanos,
}

impl Plan {
    /// A plan with the usual settings: 10 samples each, 1 ms tolerance, 50 ms to recover.
    #[must_use]
    pub fn new(faults: Vec<Fault>) -> Self {
        Self {
            faults,
            count: 10,
            seed: 1,
            tolerance: Nanos::from_millis(1),
            settle: Nanos::from_millis(100),
            max_recovery: Nanos::from_millis(50),
        }
    }

    /// The pauses before the samples, one after the other: 50..=250 ms, so that faults fall on no
    /// fixed phase of the guest's watch tick.
    pub(crate) fn pauses(&self) -> impl FnMut() -> Duration + use<> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        move || Duration::from_micros(random.u64(50_000..=250_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_pauses_again() {
        let pauses = |seed: u64| -> Vec<Duration> {
            let plan = Plan {
                seed,
                ..Plan::new(Fault::defaults())
            };
            let mut pause = plan.pauses();
            (0..100).map(|_| pause()).collect()
        };
        assert_eq!(pauses(7), pauses(7));
        assert_ne!(pauses(7), pauses(8));
        let bounds = Duration::from_millis(50)..=Duration::from_millis(250);
        assert!(pauses(7).iter().all(|pause| bounds.contains(pause)));
    }
}
