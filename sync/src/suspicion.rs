//! Whether a source that contradicts what was expected of it is right, or a falseticker.
//!
//! The reference has moved against RAW by more than bounds and wander explain. Either it did move
//! (the host paused or restored this machine, or its own clock was set), or the reading stands
//! alone, or the source is wrong. What tells them apart:
//!
//! - A move is over at once: the next reading finds the same deviation. If it is gone, the first
//!   reading was an outlier. If all that was read since has no deviation in common, bounds and rate
//!   error considered, then the source drifts or wanders: it is a falseticker.
//! - The hypervisor's own devices are the host's clock by definition; their second reading decides.
//!   So does any source's, when the host has just said that it interfered.
//! - For any other source, a large move is cross-checked with the other sources. One that agrees with
//!   either side, and not with both, decides.
//! - A small move could be the first stretch of a drift. It is watched for [`SMALL_WATCH`], or for
//!   [`FAINT_WATCH`] where it is hardly more than the bounds allow, and a second one within
//!   [`SMALL_REPEAT`] is a drift in disguise. What is faint may also be what another rate, hidden by the
//!   bounds, has made: accepted, it is slewed away and not called a step.

mod range;

use noonmark_contract::units::{Nanos, Ppb};

use crate::deviation::Deviation;
use crate::estimator::Sighting;
use crate::kernel_clock::MAX_RATE;

use range::MoveRange;

/// Below this, a move may also be what a drift makes of one poll interval.
const SMALL: Nanos = Nanos::from_millis(20);

/// How long a small move is watched: a drift that came from nothing to twice what the bounds allow
/// within one poll interval shows within another. What is less may be a slow drift that the bounds
/// hid for long; it costs little to leave it open for longer.
const SMALL_WATCH: Nanos = Nanos::from_millis(400);
const FAINT_WATCH: Nanos = Nanos::from_secs(4);

/// The most that a host's clock is corrected by frequency (`MAXFREQ`, include/linux/timex.h).
const ORDINARY: Ppb = Ppb(500_000.0);

/// Small moves no further apart than this are no moves.
pub(crate) const SMALL_REPEAT: Nanos = Nanos::from_secs(10);

/// Time between readings while a small move is watched.
pub(crate) const SMALL_INTERVAL: Nanos = Nanos::from_millis(50);

/// Readings that may contradict each other before the source is given up.
const CONTRADICTIONS: u32 = 4;

/// How much a reading is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// A second reading is proof enough.
    Full,
    /// It takes another source that agrees, or patience.
    Checked,
}

/// An open question about the source followed.
#[derive(Debug)]
pub(crate) struct Suspicion {
    /// Where the reading that opened it, or the last one that nothing before agrees with, stood.
    first: Sighting,
    claim: Deviation,
    /// Where the reference is if it moved: what all readings since have in common.
    moved: MoveRange,
    /// What an ordinary rate of a host's clock can have made of the time since the last reading believed.
    hidden: Nanos,
    /// The bound of the last reading believed.
    believed: Nanos,
    /// The most that the reference can have gained on the expectation since the first reading.
    fastest: Ppb,
    /// The last reading, and its deviation.
    last: (Sighting, Nanos),
    contradictions: u32,
    /// Whether a second reading made the same claim.
    is_confirmed: bool,
    stage: Stage,
    /// Whether the expectation is itself worth anything. At boot it is only the clock as found.
    expected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waiting for the source's next reading.
    Confirming,
    /// A second reading has confirmed the claim; other sources are asked.
    CrossChecking,
    /// The claim is accepted; the next reading says where the reference is now.
    Accepted,
}

/// What follows from a reading of the suspect source, or of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Read the source again, no sooner than after this.
    ReadAgain(Nanos),
    /// Ask another source.
    CrossCheck,
    /// The reference did move.
    ReferenceMoved,
    /// The source is wrong.
    Falseticker,
}

/// What a reading that agrees with what was expected leaves of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// It agrees with the claim as well: the source is read again.
    Open,
    /// It contradicts the claim, so the reading that made it stood alone.
    Outlier,
    /// The claim was confirmed, and nothing has contradicted it for as long as it is watched.
    Moved,
    /// It agrees with either, and no reading will tell them apart any more.
    Undecided,
}

impl Suspicion {
    /// Opens the question: the reading `first` deviates by `claim`.
    pub fn new(first: Sighting, claim: Deviation) -> Self {
        Self {
            first,
            claim,
            moved: MoveRange::around(&first, claim),
            hidden: Nanos::ZERO,
            believed: first.bound,
            fastest: Ppb(0.0),
            last: (first, claim.by),
            contradictions: 0,
            is_confirmed: false,
            stage: Stage::Confirming,
            expected: true,
        }
    }

    /// The same, so long after the last reading believed, which had this bound.
    pub fn after(self, gap: Nanos, believed: Nanos) -> Self {
        Self {
            hidden: ORDINARY.over(gap.min(SMALL_WATCH)),
            believed,
            ..self
        }
    }

    /// The first reading of a boot, by a source that is to be checked, is far from the clock as
    /// found: other sources are asked at once, and one that does not agree is enough to refuse it.
    pub fn at_boot(first: Sighting, claim: Deviation) -> Self {
        Self {
            stage: Stage::CrossChecking,
            expected: false,
            ..Self::new(first, claim)
        }
    }

    /// Where the reference was seen when the question was opened.
    pub fn first(&self) -> Sighting {
        self.first
    }

    /// The most that the reference can have gained on the expectation since then, by the last
    /// reading; zero where there was none.
    pub fn fastest(&self) -> Ppb {
        self.fastest
    }

    /// What the source claims: its deviation from what was expected.
    pub fn claim(&self) -> Deviation {
        self.claim
    }

    /// Whether anything but the clock as found at boot speaks against the claim.
    pub fn is_expected(&self) -> bool {
        self.expected
    }

    /// Whether other sources are being asked.
    pub fn is_cross_checking(&self) -> bool {
        self.stage == Stage::CrossChecking
    }

    /// The source's next reading, which also deviates. `rate_error` is how far the expectation may
    /// drift by itself, or the reference from it.
    pub fn confirm(
        &mut self,
        reading: Sighting,
        again: Deviation,
        rate_error: Ppb,
        trust: Trust,
    ) -> Decision {
        let at = reading.raw;
        let range = MoveRange::around(&reading, again);
        let now = (reading, again.by);
        (_, self.fastest) = gained((self.first, self.claim.by), now);
        let last = core::mem::replace(&mut self.last, now);
        let Some(common) = self.moved.carried(at, rate_error).and(&range) else {
            self.contradictions += 1;
            // It may have begun to run away only since the last one, and if it is slewed, just now.
            let (least, most) = gained(last, now);
            let slewed = least.0 > ORDINARY.0;
            let most = if slewed { MAX_RATE } else { most };
            self.fastest = Ppb(self.fastest.0.max(most.0));
            if trust == Trust::Checked || self.contradictions >= CONTRADICTIONS {
                return if trust == Trust::Full && again.by.abs() < SMALL {
                    Decision::ReferenceMoved
                } else {
                    Decision::Falseticker
                };
            }
            (self.first, self.claim) = (reading, again);
            (self.moved, self.is_confirmed) = (range, false);
            return Decision::ReadAgain(Nanos::ZERO);
        };
        (self.moved, self.is_confirmed) = (common, true);
        if trust == Trust::Full || self.is_accepted() {
            return Decision::ReferenceMoved;
        }
        if self.claim.by.abs() >= SMALL {
            self.stage = Stage::CrossChecking;
            return Decision::CrossCheck;
        }
        if at - self.first.raw
            < if self.is_faint() {
                FAINT_WATCH
            } else {
                SMALL_WATCH
            }
        {
            return Decision::ReadAgain(SMALL_INTERVAL);
        }
        Decision::ReferenceMoved
    }

    /// The source's next reading, which does not deviate, though it may agree with the claim as well:
    /// what is expected becomes less certain while a move is watched, and a reading can be coarse.
    pub fn agree(&mut self, reading: Sighting, again: Deviation, rate_error: Ppb) -> Agreement {
        let at = reading.raw;
        self.last = (reading, again.by);
        let range = MoveRange::around(&reading, again);
        match self.moved.carried(at, rate_error).and(&range) {
            None => Agreement::Outlier,
            Some(common) if at - self.first.raw < FAINT_WATCH => {
                self.moved = common;
                Agreement::Open
            }
            Some(_) if self.is_confirmed => Agreement::Moved,
            Some(_) => Agreement::Undecided,
        }
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

    /// Whether another rate of the reference may have made the move: one that the bounds of what was
    /// believed hid for long, or one that began since. How coarse the reading is that shows it has no part
    /// in that.
    pub fn may_be_a_rate(&self) -> bool {
        let known = self.claim.allowed - self.first.bound;
        self.claim.by.abs() < self.claim.allowed + known + self.believed + self.hidden
    }

    /// Whether the move is hardly more than the bounds allow.
    pub fn is_faint(&self) -> bool {
        let allowed = self.claim.allowed;
        self.claim.by.abs() < allowed + allowed + self.hidden
    }

    /// What another source says: its own deviation from the same expectation, and its bound.
    pub fn cross_check(&self, other: Deviation, other_bound: Nanos) -> Decision {
        let confirms = (other.by - self.claim.by).abs() <= other_bound + self.first.bound;
        let denies = !other.exceeds();
        match (confirms, denies) {
            (true, false) => Decision::ReferenceMoved,
            (false, denies) if denies || !self.expected => Decision::Falseticker,
            _ => Decision::CrossCheck,
        }
    }
}

/// How fast the reference has gained on the expectation from one reading with its deviation to the other:
/// at least and at most.
fn gained(from: (Sighting, Nanos), to: (Sighting, Nanos)) -> (Ppb, Ppb) {
    let by = (to.1 - from.1).abs();
    let bounds = to.0.bound + from.0.bound;
    let elapsed = (to.0.raw - from.0.raw).as_secs_f64().max(1e-6);
    let rate = |by: Nanos| Ppb(by.0 as f64 / elapsed);
    (rate(by - bounds), rate(by + bounds))
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Raw;

    use super::*;

    #[test]
    fn a_pause_that_a_coarse_reading_shows_is_no_rate() {
        let ms = Nanos::from_millis;
        let seen = |by: Nanos, bound: Nanos| {
            let claim = Deviation {
                by,
                allowed: bound + Nanos(60_000),
            };
            let suspicion = Suspicion::new(sighting(Raw(0), bound), claim);
            suspicion.after(ms(200), Nanos(60_000)).may_be_a_rate()
        };
        assert!(!seen(ms(27), ms(14)));
        assert!(!seen(ms(27), Nanos(60_000)));
        assert!(seen(Nanos(250_000), Nanos(60_000)));
    }

    fn deviation(by: i64, allowed: i64) -> Deviation {
        Deviation {
            by: Nanos(by),
            allowed: Nanos(allowed),
        }
    }

    /// A reading at `at`.
    fn sighting(at: Raw, bound: Nanos) -> Sighting {
        Sighting {
            raw: at,
            difference: 0,
            bound,
        }
    }

    /// Opens with a claim of `first` ns and confirms it `after` ns later with `second`, both with
    /// a bound of 100 us.
    fn confirm(first: i64, second: i64, after: Nanos, trust: Trust) -> Decision {
        let bound = Nanos(100_000);
        let mut suspicion = Suspicion::new(sighting(Raw(0), bound), deviation(first, 100_000));
        let again = deviation(second, 100_000);
        let reading = sighting(Raw(0) + after, bound);
        suspicion.confirm(reading, again, Ppb(15_000.0), trust)
    }

    #[test]
    fn the_hypervisors_clock_is_believed_at_its_second_reading() {
        let decision = confirm(5_000_000, 5_000_040, Nanos(10_000), Trust::Full);
        assert_eq!(decision, Decision::ReferenceMoved);
    }

    #[test]
    fn a_large_move_of_any_other_source_is_cross_checked() {
        let hour = 3_600_000_000_000;
        let decision = confirm(hour, hour, Nanos::from_millis(1), Trust::Checked);
        assert_eq!(decision, Decision::CrossCheck);
    }

    #[test]
    fn a_deviation_that_grows_is_a_drift_and_no_move() {
        let grown = confirm(300_000, 700_000, Nanos::from_millis(400), Trust::Checked);
        assert_eq!(grown, Decision::Falseticker);
    }

    /// A suspicion of 300 us with a bound of 200 us, and no drift of the expectation.
    fn suspicion() -> Suspicion {
        let first = sighting(Raw(0), Nanos(200_000));
        Suspicion::new(first, deviation(300_000, 100_000))
    }

    #[test]
    fn readings_that_agree_in_pairs_with_the_first_must_have_one_deviation_in_common() {
        let mut suspicion = suspicion();
        let mut decision = |ms: i64, by: i64| {
            let reading = sighting(Raw(ms * 1_000_000), Nanos(100_000));
            let again = deviation(by, 100_000);
            suspicion.confirm(reading, again, Ppb(0.0), Trust::Checked)
        };
        assert_eq!(decision(50, 210_000), Decision::ReadAgain(SMALL_INTERVAL));
        assert_eq!(decision(100, 420_000), Decision::Falseticker);
    }

    #[test]
    fn a_reading_too_coarse_to_tell_decides_nothing_and_one_that_denies_the_claim_does() {
        let mut suspicion = suspicion();
        let mut agree = |ms: i64, by: i64, bound: i64| {
            let again = deviation(by, 400_000);
            let reading = sighting(Raw(ms * 1_000_000), Nanos(bound));
            suspicion.agree(reading, again, Ppb(0.0))
        };
        assert_eq!(agree(50, 150_000, 300_000), Agreement::Open);
        assert_eq!(agree(100, 10_000, 50_000), Agreement::Outlier);
        assert_eq!(agree(5_000, 150_000, 300_000), Agreement::Undecided);
    }

    #[test]
    fn a_move_that_two_readings_claimed_and_none_denied_is_one_though_the_last_may_deny_it() {
        let mut suspicion = suspicion();
        let reading = |ms: i64| sighting(Raw(ms * 1_000_000), Nanos(40_000));
        let again = deviation(310_000, 100_000);
        let drift = Ppb(40_000.0);
        let decision = suspicion.confirm(reading(50), again, drift, Trust::Checked);
        assert_eq!(decision, Decision::ReadAgain(SMALL_INTERVAL));
        // What is expected has become so uncertain that it explains the same deviation.
        let agreeing = deviation(310_000, 320_000);
        let mut agree = |ms| suspicion.agree(reading(ms), agreeing, drift);
        assert_eq!(agree(3_900), Agreement::Open);
        assert_eq!(agree(4_100), Agreement::Moved);
    }

    #[test]
    fn a_small_move_is_watched_before_it_is_believed() {
        let early = confirm(300_000, 310_000, Nanos::from_millis(100), Trust::Checked);
        assert_eq!(early, Decision::ReadAgain(SMALL_INTERVAL));
        let late = confirm(300_000, 310_000, SMALL_WATCH, Trust::Checked);
        assert_eq!(late, Decision::ReferenceMoved);
    }

    #[test]
    fn a_move_that_the_bounds_nearly_explain_is_watched_for_longer() {
        let early = confirm(150_000, 160_000, SMALL_WATCH, Trust::Checked);
        assert_eq!(early, Decision::ReadAgain(SMALL_INTERVAL));
        let late = confirm(150_000, 160_000, FAINT_WATCH, Trust::Checked);
        assert_eq!(late, Decision::ReferenceMoved);
    }

    #[test]
    fn another_source_decides_only_where_it_can_tell_the_two_apart() {
        let second = 1_000_000_000;
        let suspicion =
            Suspicion::new(sighting(Raw(0), Nanos(100)), deviation(3_600 * second, 100));
        let coarse = Nanos(second);
        let with_source = suspicion.cross_check(deviation(3_599_700_000_000, second), coarse);
        assert_eq!(with_source, Decision::ReferenceMoved);
        let against_it = suspicion.cross_check(deviation(300_000_000, second), coarse);
        assert_eq!(against_it, Decision::Falseticker);
        let elsewhere = suspicion.cross_check(deviation(86_400 * second, second), coarse);
        assert_eq!(elsewhere, Decision::CrossCheck);
        let small = Suspicion::new(sighting(Raw(0), Nanos(100)), deviation(50_000_000, 100));
        let too_coarse = small.cross_check(deviation(300_000_000, second), coarse);
        assert_eq!(too_coarse, Decision::CrossCheck);
    }
}
