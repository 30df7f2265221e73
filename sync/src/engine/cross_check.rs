//! The source followed contradicts what was expected of it: whether the reference has moved, or the
//! source is a falseticker. [`crate::suspicion`] decides; here the other sources are asked, and what
//! was decided is done.

use alloc::format;
use alloc::vec::Vec;

use noonmark_contract::record::{Alert, Cause, DetectedBy};
use noonmark_contract::sample::{Method, Reading, Source};
use noonmark_contract::units::{Nanos, Ppb, Raw};

use crate::deviation::Deviation;
use crate::estimator::Sighting;
use crate::kernel_clock::MAX_RATE;
use crate::ladder::Rung;
use crate::suspicion::{Agreement, Decision, SMALL_REPEAT, Suspicion, Trust};

use super::messages::Action;
use super::state::{Engine, Notice};

/// A clock as found at boot comes from the RTC, which is right to a second or so. A first reading
/// closer to it than this needs no other source to agree.
const BOOT_AGREES: Nanos = Nanos::from_millis(1_500);

/// A source that counts whole seconds may set its seconds apart from the host's.
const RTC_PHASE: Nanos = Nanos::from_secs(1);

/// At boot, an RTC that is further than this from a source that answers was never set, or was set to
/// an instant on purpose (`-rtc base=`): no time zone is so far from UTC. One that is nearer may just
/// as well be right, and is believed, for nobody can write to it from outside.
const RTC_UNSET: Nanos = Nanos::from_secs(26 * 3_600);

/// A time zone is a whole number of these from UTC.
const QUARTER_HOUR: i64 = 900_000_000_000;

/// Moves forward of the host's clock that the RTC cannot deny: the machine may have stood still, and
/// the RTC with it (`-rtc clock=vm`, libvirt's `track='guest'`). Longer ones it can, for no pause that
/// the host does not tell of (`{"kick":true}`) is so long as a rule.
const PAUSES: core::ops::Range<Nanos> = Nanos::ZERO..Nanos::from_secs(900);

impl Engine {
    /// The first reading of a boot: there is nothing to compare it with but the clock as found.
    pub(super) fn first_reading(&mut self, now: Raw, reading: Reading, actions: &mut Vec<Action>) {
        if self.is_cross_checking() {
            return;
        }
        let offset = reading.offset();
        let needs_cross_check = self.trust(now, &reading.source) == Trust::Checked
            && !matches!(reading.source, Source::Rtc | Source::Ntp)
            && offset.abs() > BOOT_AGREES;
        if needs_cross_check && self.suspicion.is_none() {
            let claim = Deviation {
                by: offset,
                allowed: BOOT_AGREES,
            };
            let first = Sighting::in_reading(&reading);
            self.suspicion = Some(Suspicion::at_boot(first, claim));
            self.cross_check(now, None, actions);
            return;
        }
        self.suspicion = None;
        self.begin_repair(now, Cause::Boot, offset);
        self.estimator.restart(&reading);
        self.take_in(now, &reading, actions);
    }

    /// A reading that bounds and wander do not explain.
    pub(super) fn contradicted(
        &mut self,
        now: Raw,
        reading: &Reading,
        deviation: Deviation,
        actions: &mut Vec<Action>,
    ) {
        let trust = self.trust(now, &reading.source);
        let rate_error = self.most_it_may_drift(trust, &reading.source);
        let seen = Sighting::in_reading(reading);
        if self.suspicion.is_none() && self.may_be_its_rate(reading, deviation) {
            let suspicion = Suspicion::new(seen, deviation);
            self.begin_regime(now, &suspicion, reading, actions);
            return;
        }
        let decision = match &mut self.suspicion {
            None => {
                let gap = self.estimator.since_read(reading.raw);
                let rung = self.ladder.followed();
                let believed = rung.and_then(Rung::last_bound).unwrap_or(reading.bound);
                self.suspicion = Some(Suspicion::new(seen, deviation).after(gap, believed));
                let by = DetectedBy::WatchTick;
                self.look.get_or_insert(Notice { by, at: now });
                Decision::ReadAgain(Nanos::ZERO)
            }
            Some(suspicion) if suspicion.is_cross_checking() => return,
            Some(suspicion) => suspicion.confirm(seen, deviation, rate_error, trust),
        };
        match decision {
            Decision::ReadAgain(after) if after > Nanos::ZERO => self.schedule.read = now + after,
            Decision::ReadAgain(_) => self.ask(&reading.source, now, actions),
            Decision::CrossCheck => self.cross_check(now, None, actions),
            Decision::ReferenceMoved => self.reference_moved(now, reading, trust, actions),
            Decision::Falseticker => self.followed_is_falseticker(now, deviation.by, actions),
        }
    }

    /// Whether nothing is known of how fast the reference runs against RAW, so that a rate may be all
    /// that `reading` tells of: an emulated counter can be off by per cents (`-icount`).
    fn may_be_its_rate(&self, reading: &Reading, deviation: Deviation) -> bool {
        let since = self
            .last
            .good
            .map_or(Nanos::ZERO, |good| reading.raw - good);
        self.estimator.is_new()
            && reading.source != Source::Rtc
            && deviation.by.abs() <= deviation.allowed + MAX_RATE.over(since)
    }

    /// How fast a reference can move from what is expected of it between two readings, if the source
    /// is right: what is taken at its word may be slewed meanwhile.
    fn most_it_may_drift(&self, trust: Trust, source: &Source) -> Ppb {
        if trust == Trust::Full && source.is_immediate() {
            MAX_RATE
        } else {
            self.estimator.expected_rate_error()
        }
    }

    /// What a reading that agrees with what is expected leaves of the question; none where there is
    /// none open, or the other sources decide it.
    pub(super) fn agreement(
        &mut self,
        now: Raw,
        reading: &Reading,
        deviation: Deviation,
    ) -> Option<Agreement> {
        let trust = self.trust(now, &reading.source);
        let rate_error = self.estimator.expected_rate_error();
        let suspicion = self.suspicion.as_mut()?;
        if trust == Trust::Full || suspicion.is_cross_checking() || suspicion.is_accepted() {
            return Some(Agreement::Outlier);
        }
        Some(suspicion.agree(Sighting::in_reading(reading), deviation, rate_error))
    }

    /// The reference did move against RAW; `reading` says where to.
    pub(super) fn reference_moved(
        &mut self,
        now: Raw,
        reading: &Reading,
        trust: Trust,
        actions: &mut Vec<Action>,
    ) {
        let claim = self.suspicion.as_ref().map(Suspicion::claim);
        if let Some(claim) = claim
            && self.hinted(now).is_none()
            && self.policy.refuses(claim.by)
        {
            self.followed_is_falseticker(now, claim.by, actions);
            return;
        }
        let repeated = |at: Raw| now - at < SMALL_REPEAT;
        let is_small = self.suspicion.as_ref().is_some_and(Suspicion::is_small);
        if trust == Trust::Checked && is_small {
            if self.schedule.small_move.is_some_and(repeated) {
                let by = claim.map_or(Nanos::ZERO, |claim| claim.by);
                self.followed_is_falseticker(now, by, actions);
                return;
            }
            self.schedule.small_move = Some(now);
        }
        let Some(suspicion) = self.suspicion.take() else {
            return;
        };
        if trust == Trust::Full && reading.source.is_immediate() {
            self.begin_regime(now, &suspicion, reading, actions);
            return;
        }
        let by = suspicion.claim().by;
        let cause = self.cause_of_move(now, by);
        // A machine that was interrupted may go on under another host, whose counter has another rate.
        let was_interrupted = self.hinted(now).is_some();
        self.hint = None;
        if was_interrupted {
            self.first_rate = None;
            self.estimator.restart(reading);
            self.schedule.settle_anew(now);
        } else {
            self.estimator.jump(reading);
        }
        // What need not have been a step is slewed away, as a better estimate of a slow source is.
        if was_interrupted || !suspicion.may_be_a_rate() {
            self.reference_stepped(now, reading, by, cause, actions);
        }
        self.take_in(now, reading, actions);
    }

    /// Why the reference moved against RAW by `by`.
    pub(super) fn cause_of_move(&self, now: Raw, by: Nanos) -> Cause {
        let just_switched = |at: Raw| now - at < Nanos::from_secs(1);
        match self.hinted(now) {
            Some(DetectedBy::Vmgenid | DetectedBy::Vmclock) => Cause::HostRestore,
            Some(_) if by > Nanos::ZERO => Cause::HostPause,
            _ if self.schedule.switched.is_some_and(just_switched) => Cause::SourceChange,
            // A machine that stood still finds the reference ahead, never behind.
            _ if by > Nanos::ZERO => self.pause_or_step(by),
            _ => Cause::HostStep,
        }
    }

    /// Whether the machine stood still, or its host's clock was set forward by `by`.
    fn pause_or_step(&self, by: Nanos) -> Cause {
        let since = self.last.good.unwrap_or(Raw(i64::MIN));
        let stood = self.stopwatch.stood_still(since);
        let agrees = |stood: Nanos| (stood - by).abs() <= Nanos(by.0 / 8) + Nanos::from_millis(1);
        // Where KVM serves its clock, the processor's counter is the host's.
        let runs_on = self.ladder.is_followed(&Source::Kvm);
        match stood {
            Some(stood) if stood > Nanos::ZERO && agrees(stood) => Cause::HostPause,
            Some(stood) if stood == Nanos::ZERO && runs_on => Cause::HostStep,
            _ => Cause::HostPauseOrStep,
        }
    }

    /// Asks the next source that may know better; without one, the claim stands.
    pub(super) fn cross_check(
        &mut self,
        now: Raw,
        after: Option<&Source>,
        actions: &mut Vec<Action>,
    ) {
        match self.ladder.cross_check_after(after) {
            Some(source) => self.ask(&source, now, actions),
            None => self.accept_claim(now, actions),
        }
    }

    /// What another source says of the suspect one.
    pub(super) fn cross_checked(&mut self, now: Raw, reading: &Reading, actions: &mut Vec<Action>) {
        self.ladder.good(reading);
        let phase = if reading.method == Method::Rtc {
            RTC_PHASE
        } else {
            Nanos::ZERO
        };
        let other = match self.estimator.compare(reading) {
            Some(deviation) => Deviation {
                allowed: deviation.allowed + phase,
                ..deviation
            },
            None => Deviation {
                by: reading.offset(),
                allowed: reading.bound + phase + BOOT_AGREES,
            },
        };
        let Some(suspicion) = &self.suspicion else {
            return;
        };
        let claim = suspicion.claim().by;
        let apart = claim - other.by;
        let is_rtc = reading.source == Source::Rtc;
        // That the RTC counts on while the machine stands still is only a habit.
        let stood_still = is_rtc && suspicion.is_expected() && PAUSES.contains(&claim);
        if stood_still && !other.exceeds() {
            self.cross_check(now, Some(&reading.source), actions);
            return;
        }
        let at_boot = is_rtc && !suspicion.is_expected();
        let unset = apart.abs() > RTC_UNSET;
        let local = is_local_time(apart, reading.bound + phase);
        if at_boot && (unset || local) {
            let why = if unset {
                format!("it is {apart} behind the other source, so it can't have been set")
            } else {
                format!(
                    "it is {apart} behind the other source, a time zone's difference, so it keeps \
                     local time; start QEMU with -rtc base=utc"
                )
            };
            self.ladder
                .mark_falseticker(&reading.source, why.clone(), now);
            self.alert(Alert::SourceLies, true, &format!("rtc: {why}"), actions);
            self.cross_check(now, Some(&reading.source), actions);
            return;
        }
        match suspicion.cross_check(other, reading.bound + phase) {
            Decision::ReferenceMoved => self.accept_claim(now, actions),
            Decision::Falseticker => self.followed_is_falseticker(now, claim, actions),
            _ => self.cross_check(now, Some(&reading.source), actions),
        }
    }

    /// The claim of the suspect source is accepted: its next reading says where the reference is.
    fn accept_claim(&mut self, now: Raw, actions: &mut Vec<Action>) {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.accept();
        }
        let source = self.ladder.followed().map(|rung| rung.source.clone());
        if let Some(source) = source {
            self.ask(&source, now, actions);
        }
    }

    /// The source followed contradicts itself or another that is believed.
    fn followed_is_falseticker(&mut self, now: Raw, by: Nanos, actions: &mut Vec<Action>) {
        let suspicion = self.suspicion.as_ref();
        let at_boot = suspicion.is_some_and(|suspicion| !suspicion.is_expected());
        let at = suspicion.map_or(now, |suspicion| suspicion.first().raw);
        let before = self.estimator.predict(at);
        self.estimator.unlearn();
        let after = self.estimator.predict(at);
        let apart = match (before, after) {
            (Some(before), Some(after)) => (after.reference - before.reference).abs(),
            _ => Nanos::ZERO,
        };
        let why = if at_boot {
            format!(
                "it is {by} from the RTC, which is believed; should the RTC keep local time, start \
                 QEMU with -rtc base=utc"
            )
        } else {
            format!("it claims that the time is {by} from what is known")
        };
        let contest = self.contest();
        self.drop_followed(now, Alert::SourceLies, why, actions);
        if let (Some(_), Some(contested)) = (contest, &mut self.contested) {
            // Its claim was against what is unlearnt by now.
            contested.by += apart;
        }
    }
}

/// Whether an RTC that is `apart` from another source, each of them right to `bound` in all, keeps the
/// local time of some time zone.
fn is_local_time(apart: Nanos, bound: Nanos) -> bool {
    let off = apart.0.rem_euclid(QUARTER_HOUR);
    let off = off.min(QUARTER_HOUR - off);
    apart.0.abs() > QUARTER_HOUR / 2 && off <= bound.0
}
