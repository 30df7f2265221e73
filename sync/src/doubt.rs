//! Whom to believe when a reading contradicts what was expected of the reference.
//!
//! The reference has moved against RAW by more than bounds and wander explain. Either it did move
//! (the host paused or restored this machine, or its own clock was set), or the reading stands
//! alone, or the source is wrong. What tells them apart:
//!
//! - A move is over at once: the next reading finds the same deviation. If it is gone, the first
//!   reading was an outlier. If it grows by more than the bounds explain, the source drifts or
//!   wanders: it lies.
//! - The hypervisor's own devices are the host's clock by definition; their second reading decides.
//!   So does any source's, when the host has just said that it interfered.
//! - For any other source, a large move is put to witnesses. One that agrees with either side, and
//!   not with both, decides.
//! - A small move could be the first stretch of a drift. It is watched for [`SMALL_WATCH`], or for
//!   [`FAINT_WATCH`] where it is hardly more than the bounds allow, and a second one within [`SMALL_REPEAT`] is a drift in disguise.

use crate::estimator::Deviation;
use crate::units::{Nanos, Ppb, Raw};

/// Below this, a move may also be what a drift makes of one poll interval.
const SMALL: Nanos = Nanos::from_millis(20);

/// How long a small move is watched: a drift that came from nothing to twice what the bounds allow
/// within one poll interval shows within another. What is less may be a slow drift that the bounds
/// hid for long; it costs little to leave it in doubt for longer.
const SMALL_WATCH: Nanos = Nanos::from_millis(400);
const FAINT_WATCH: Nanos = Nanos::from_secs(4);

/// Small moves no further apart than this are no moves.
pub(crate) const SMALL_REPEAT: Nanos = Nanos::from_secs(10);

/// Time between readings while a small move is watched.
pub(crate) const SMALL_INTERVAL: Nanos = Nanos::from_millis(100);

/// Readings that may contradict each other before the source is given up.
const CONTRADICTIONS: u32 = 4;

/// How much a reading is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// A second reading is proof enough.
    Full,
    /// It takes a witness, or patience.
    Checked,
}

/// An open question about the source followed.
#[derive(Debug)]
pub(crate) struct Doubt {
    since: Raw,
    claim: Deviation,
    bound: Nanos,
    contradictions: u32,
    stage: Stage,
    /// Whether the expectation is itself worth anything. At boot it is only the clock as found.
    expected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waiting for the source's next reading.
    Confirming,
    /// A second reading has confirmed the claim; witnesses are heard.
    Hearing,
    /// The claim is accepted; the next reading says where the reference is now.
    Accepted,
}

/// What follows from a reading of the doubtful source, or of a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Read the source again, no sooner than after this.
    ReadAgain(Nanos),
    /// Ask another source what it thinks.
    AskWitness,
    /// The reference did move.
    Moved,
    /// The source lies.
    Lied,
}

impl Doubt {
    /// Opens the question: a reading at `at` with pairing bound `bound` deviates by `claim`.
    pub fn new(at: Raw, claim: Deviation, bound: Nanos) -> Self {
        Self {
            since: at,
            claim,
            bound,
            contradictions: 0,
            stage: Stage::Confirming,
            expected: true,
        }
    }

    /// The first reading of a boot, by a source that is to be checked, is far from the clock as
    /// found: witnesses are heard at once, and one that does not agree is enough to refuse it.
    pub fn at_boot(at: Raw, claim: Deviation, bound: Nanos) -> Self {
        Self {
            stage: Stage::Hearing,
            expected: false,
            ..Self::new(at, claim, bound)
        }
    }

    /// What the source claims: its deviation from what was expected.
    pub fn claim(&self) -> Deviation {
        self.claim
    }

    /// Whether anything but the clock as found at boot speaks against the claim.
    pub fn is_expected(&self) -> bool {
        self.expected
    }

    /// Whether witnesses are being heard.
    pub fn is_hearing(&self) -> bool {
        self.stage == Stage::Hearing
    }

    /// The source's next reading, which also deviates. `rate_error` is how far the expectation may
    /// drift by itself.
    pub fn confirm(
        &mut self,
        at: Raw,
        again: Deviation,
        bound: Nanos,
        rate_error: Ppb,
        trust: Trust,
    ) -> Verdict {
        let elapsed = at - self.since;
        let change = (again.by - self.claim.by).abs();
        let explained = bound + self.bound + rate_error.over(elapsed) + Nanos(2);
        if change > explained {
            self.contradictions += 1;
            if trust == Trust::Checked || self.contradictions >= CONTRADICTIONS {
                return if trust == Trust::Full && again.by.abs() < SMALL {
                    Verdict::Moved
                } else {
                    Verdict::Lied
                };
            }
            (self.since, self.claim, self.bound) = (at, again, bound);
            return Verdict::ReadAgain(Nanos::ZERO);
        }
        if trust == Trust::Full || self.is_accepted() {
            return Verdict::Moved;
        }
        if self.claim.by.abs() >= SMALL {
            self.stage = Stage::Hearing;
            return Verdict::AskWitness;
        }
        if bound.0 < self.bound.0 / 2 {
            // A growth shows sooner against the sharper of the two.
            (self.since, self.claim, self.bound) = (at, again, bound);
            return Verdict::ReadAgain(SMALL_INTERVAL);
        }
        let faint = self.claim.by.abs() < self.claim.allowed + self.claim.allowed;
        if elapsed < if faint { FAINT_WATCH } else { SMALL_WATCH } {
            return Verdict::ReadAgain(SMALL_INTERVAL);
        }
        Verdict::Moved
    }

    /// Nobody contradicts the claim.
    pub fn accept(&mut self) {
        self.stage = Stage::Accepted;
    }

    /// Whether the claim only waits for a reading to be carried out.
    pub fn is_accepted(&self) -> bool {
        self.stage == Stage::Accepted
    }

    /// Whether an accepted move was so small that a second one soon would be a drift.
    pub fn is_small(&self) -> bool {
        self.claim.by.abs() < SMALL
    }

    /// What a witness says: its own deviation from the same expectation, and its bound.
    pub fn hear(&self, witness: Deviation, witness_bound: Nanos) -> Verdict {
        let confirms = (witness.by - self.claim.by).abs() <= witness_bound + self.bound;
        let denies = !witness.exceeds();
        match (confirms, denies) {
            (true, false) => Verdict::Moved,
            (false, denies) if denies || !self.expected => Verdict::Lied,
            _ => Verdict::AskWitness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deviation(by: i64, allowed: i64) -> Deviation {
        Deviation {
            by: Nanos(by),
            allowed: Nanos(allowed),
        }
    }

    /// Opens with a claim of `first` ns and confirms it `after` ns later with `second`, both with
    /// a bound of 100 us.
    fn confirm(first: i64, second: i64, after: Nanos, trust: Trust) -> Verdict {
        let bound = Nanos(100_000);
        let mut doubt = Doubt::new(Raw(0), deviation(first, 100_000), bound);
        let again = deviation(second, 100_000);
        doubt.confirm(Raw(0) + after, again, bound, Ppb(15_000.0), trust)
    }

    #[test]
    fn the_hypervisors_clock_is_believed_at_its_second_word() {
        let verdict = confirm(5_000_000, 5_000_040, Nanos(10_000), Trust::Full);
        assert_eq!(verdict, Verdict::Moved);
    }

    #[test]
    fn a_large_move_of_any_other_source_is_put_to_a_witness() {
        let hour = 3_600_000_000_000;
        let verdict = confirm(hour, hour, Nanos::from_millis(1), Trust::Checked);
        assert_eq!(verdict, Verdict::AskWitness);
    }

    #[test]
    fn a_deviation_that_grows_is_a_drift_and_no_move() {
        let grown = confirm(300_000, 700_000, Nanos::from_millis(400), Trust::Checked);
        assert_eq!(grown, Verdict::Lied);
    }

    #[test]
    fn a_small_move_is_watched_before_it_is_believed() {
        let early = confirm(300_000, 310_000, Nanos::from_millis(100), Trust::Checked);
        assert_eq!(early, Verdict::ReadAgain(SMALL_INTERVAL));
        let late = confirm(300_000, 310_000, SMALL_WATCH, Trust::Checked);
        assert_eq!(late, Verdict::Moved);
    }

    #[test]
    fn a_move_that_the_bounds_nearly_explain_is_watched_for_longer() {
        let early = confirm(150_000, 160_000, SMALL_WATCH, Trust::Checked);
        assert_eq!(early, Verdict::ReadAgain(SMALL_INTERVAL));
        let late = confirm(150_000, 160_000, FAINT_WATCH, Trust::Checked);
        assert_eq!(late, Verdict::Moved);
    }

    #[test]
    fn a_witness_decides_only_where_it_can_tell_the_two_apart() {
        let second = 1_000_000_000;
        let doubt = Doubt::new(Raw(0), deviation(3_600 * second, 100), Nanos(100));
        let coarse = Nanos(second);
        let with_source = doubt.hear(deviation(3_599_700_000_000, second), coarse);
        assert_eq!(with_source, Verdict::Moved);
        let against_it = doubt.hear(deviation(300_000_000, second), coarse);
        assert_eq!(against_it, Verdict::Lied);
        let elsewhere = doubt.hear(deviation(86_400 * second, second), coarse);
        assert_eq!(elsewhere, Verdict::AskWitness);
        let small = Doubt::new(Raw(0), deviation(50_000_000, 100), Nanos(100));
        let too_coarse = small.hear(deviation(300_000_000, second), coarse);
        assert_eq!(too_coarse, Verdict::AskWitness);
    }
}
