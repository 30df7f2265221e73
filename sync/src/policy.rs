//! The one policy for correcting the clock: what is slewed, and what is stepped.
//!
//! A step is told to services, and one backward makes them see the same time twice; a slew is seen by
//! nobody, but takes ten times as long as what it corrects, or longer. So it depends on what made the
//! clock wrong:
//!
//! | the clock is wrong because | forward | backward |
//! |---|---|---|
//! | it was never right since boot ([`Reason::Start`]) | stepped, from 1 µs on | the same |
//! | somebody in the guest set it or its rate ([`Reason::Guest`]) | stepped, from `step` on | the same |
//! | the host's clock was stepped, or the machine stood still ([`Reason::Host`]) | stepped, from `step` on | the same |
//! | the estimate of a clock that runs on undisturbed has changed ([`Reason::Estimate`]): the host slews, or another source is followed | stepped, from `makestep` on | slewed, however far |
//!
//! So the clock never goes backward unless the host's did, or the guest's was set. Slews are no
//! faster than `max_slew`; the kernel itself takes no more than ten percent. The names are chrony's
//! (`makestep`, `maxslewrate`) and ntpd-rs's (`step-threshold`, the panic threshold).
//!
//! A reference that has moved by more than `panic`, where that is set, is not followed at all.

use noonmark_contract::config::ClockConfig;
use noonmark_contract::units::{Nanos, Ppb};

use crate::kernel_clock::MAX_RATE;

/// At boot the clock is set to the nanosecond, not only to within `step`; what is smaller than
/// this is slewed away in no time.
const START_STEP: Nanos = Nanos::from_micros(1);

/// Why the clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has not been right since boot.
    Start,
    /// Somebody in the guest set it, or gave it a rate.
    Guest,
    /// The reference was stepped, or the machine stood still.
    Host,
    /// None of these: more is known of the reference than before.
    Estimate,
}

/// What is slewed, and what is stepped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    step: Nanos,
    makestep: Nanos,
    max_slew: Ppb,
    panic: Option<Nanos>,
}

impl Policy {
    pub fn new(config: &ClockConfig) -> Self {
        Self {
            step: config.step.max(Nanos(1)),
            makestep: config.makestep.max(Nanos(1)),
            max_slew: Ppb(config.max_slew.0.clamp(0.0, MAX_RATE.0)),
            panic: config.panic,
        }
    }

    /// Changes from which offset on a disturbed clock is stepped.
    pub fn set_step(&mut self, step: Nanos) {
        self.step = step.max(Nanos(1));
    }

    /// Whether a clock that is wrong by `offset` is to be stepped; else it is slewed.
    pub fn steps(&self, reason: Reason, offset: Nanos) -> bool {
        match reason {
            Reason::Start => offset.abs() > START_STEP,
            Reason::Guest | Reason::Host => self.is_wrong(offset),
            Reason::Estimate => offset >= self.makestep.max(self.step),
        }
    }

    /// Whether an offset is more than is left to the ordinary adjustments of the frequency.
    pub fn is_wrong(&self, offset: Nanos) -> bool {
        offset.abs() >= self.step
    }

    /// Whether a reference that has moved by this is not to be followed at all.
    pub fn refuses(&self, moved: Nanos) -> bool {
        self.panic.is_some_and(|most| moved.abs() > most)
    }

    /// What is left of the room for an offset.
    pub fn room(&self, offset: Nanos) -> Nanos {
        self.step - offset.abs()
    }

    /// The fastest slew.
    pub fn max_slew(&self) -> Ppb {
        self.max_slew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_host_or_guest_did_to_the_clock_takes_it_backward() {
        let policy = Policy::new(&ClockConfig::default());
        for back in [
            -Nanos::from_micros(150),
            -Nanos::from_secs(3),
            -Nanos::from_secs(86_400),
        ] {
            assert!(policy.steps(Reason::Start, back));
            assert!(policy.steps(Reason::Guest, back));
            assert!(policy.steps(Reason::Host, back));
            assert!(!policy.steps(Reason::Estimate, back));
        }
    }

    #[test]
    fn what_is_small_is_slewed_either_way() {
        let policy = Policy::new(&ClockConfig::default());
        for small in [Nanos(99_999), Nanos(-99_999), Nanos::ZERO] {
            for reason in [Reason::Guest, Reason::Host, Reason::Estimate] {
                assert!(!policy.steps(reason, small), "{reason:?} {small}");
            }
        }
        assert!(!policy.steps(Reason::Estimate, Nanos::from_millis(999)));
        assert!(policy.steps(Reason::Estimate, Nanos::from_secs(1)));
        assert!(!policy.steps(Reason::Start, Nanos(1_000)));
    }
}
