//! Readings: what the source followed says of the reference, and whether it is believed.

use alloc::format;
use alloc::vec::Vec;

use noonmark_contract::record::{Alert, Cause, DetectedBy};
use noonmark_contract::sample::{Local, Method, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};

use crate::doubt::{Doubt, SMALL_INTERVAL, SMALL_REPEAT, Trust, Verdict};
use crate::estimator::{Deviation, WANDER_PPB};

use super::{Action, Engine, Look, NETWORK_READ_LAST, SLOW_READ_LAST};

/// A clock as found at boot comes from the RTC, which is right to a second or so. A first reading
/// closer to it than this needs no witness.
const BOOT_AGREES: Nanos = Nanos::from_millis(1_500);

/// A witness that counts whole seconds may set its seconds apart from the host's.
const RTC_PHASE: Nanos = Nanos::from_secs(1);

/// At boot, an RTC that is further than this from a source that answers was never set, or was set to
/// an instant on purpose (`-rtc base=`): no time zone is so far from UTC. One that is nearer may just
/// as well be right, and is believed, for nobody can write to it from outside.
const RTC_UNSET: Nanos = Nanos::from_secs(26 * 3_600);

/// A source that is to be checked may not run further from RAW than this. Timer calibrations are
/// within it.
const MAX_RATE: Ppb = Ppb(500_000.0);

/// How REALTIME and RAW of a reading can be mispaired where the shell, not the driver, paired them.
const SHELL_PAIRING: Nanos = Nanos::from_micros(3);

/// No reference is later than this: 2200-01-01.
const LATEST: Utc = Utc(7_258_118_400_000_000_000);

/// The guest's clocks of a reading.
pub(super) fn paired(reading: &Reading) -> Local {
    Local {
        realtime: reading.realtime,
        raw: reading.raw,
        bound: match reading.method {
            Method::Precise => Nanos(2),
            _ => SHELL_PAIRING,
        },
    }
}

impl Engine {
    /// The answer to a `Read`.
    pub(super) fn read(
        &mut self,
        now: Raw,
        source: &Source,
        outcome: Result<Reading, ReadFailure>,
        actions: &mut Vec<Action>,
    ) {
        self.ladder.answered(source);
        let outcome = outcome.and_then(|reading| self.plausible(now, reading));
        let followed = self.ladder.is_followed(source);
        match outcome {
            Ok(reading) if followed => self.track(now, reading, actions),
            Ok(reading) if self.is_hearing() => self.hear_witness(now, &reading, actions),
            Ok(reading) => self.probed(now, reading, actions),
            Err(why) => self.read_failed(now, source, why, actions),
        }
    }

    /// Refuses what no reference can say.
    fn plausible(&self, now: Raw, reading: Reading) -> Result<Reading, ReadFailure> {
        let possible = reading.reference >= self.built
            && reading.reference <= LATEST
            && reading.bound >= Nanos::ZERO
            && reading.raw <= now + Nanos::from_millis(1);
        if possible {
            Ok(reading)
        } else {
            Err(ReadFailure::Garbage)
        }
    }

    /// A reading of the source followed.
    pub(super) fn track(&mut self, now: Raw, reading: Reading, actions: &mut Vec<Action>) {
        self.schedule.read = now + self.schedule.read_interval;
        let last = match reading.source {
            Source::Ntp => NETWORK_READ_LAST,
            _ => SLOW_READ_LAST,
        };
        self.schedule.read_interval =
            (self.schedule.read_interval + self.schedule.read_interval).min(last);
        let checked = self.trust(now, &reading.source) == Trust::Checked;
        if checked && self.doubt.is_none() {
            self.estimator.unlearn_creep(&reading);
        }
        match self.estimator.compare(&reading) {
            None => self.first_reading(now, reading, actions),
            Some(deviation) if deviation.exceeds() => {
                self.contradicted(now, &reading, deviation, actions);
            }
            Some(deviation) => {
                if self.stays_open(now, &reading, deviation) {
                    self.schedule.read = now + SMALL_INTERVAL;
                    return;
                }
                if self.doubt.take().is_some() {
                    let why = "one reading stood alone; the next one contradicted it";
                    self.ladder.outlier(&reading.source, why.into());
                }
                self.believe(now, &reading, actions);
            }
        }
    }

    /// The first reading of a boot: there is nothing to compare it with but the clock as found.
    fn first_reading(&mut self, now: Raw, reading: Reading, actions: &mut Vec<Action>) {
        if self.is_hearing() {
            return;
        }
        let offset = reading.offset();
        let needs_witness = self.trust(now, &reading.source) == Trust::Checked
            && reading.source != Source::Rtc
            && offset.abs() > BOOT_AGREES;
        if needs_witness && self.doubt.is_none() {
            let claim = Deviation {
                by: offset,
                allowed: BOOT_AGREES,
            };
            self.doubt = Some(Doubt::at_boot(reading.raw, claim, reading.bound));
            self.ask_witness(now, None, actions);
            return;
        }
        self.doubt = None;
        self.begin_repair(now, Cause::Boot, offset);
        self.estimator.restart(&reading);
        self.believe(now, &reading, actions);
    }

    /// A reading that bounds and wander do not explain.
    fn contradicted(
        &mut self,
        now: Raw,
        reading: &Reading,
        deviation: Deviation,
        actions: &mut Vec<Action>,
    ) {
        let trust = self.trust(now, &reading.source);
        let rate_error = self.expected_rate_error();
        let verdict = match &mut self.doubt {
            None => {
                self.doubt = Some(Doubt::new(reading.raw, deviation, reading.bound));
                let by = DetectedBy::WatchTick;
                self.look.get_or_insert(Look { by, at: now });
                Verdict::ReadAgain(Nanos::ZERO)
            }
            Some(doubt) if doubt.is_hearing() => return,
            Some(doubt) => doubt.confirm(reading.raw, deviation, reading.bound, rate_error, trust),
        };
        match verdict {
            Verdict::ReadAgain(after) if after > Nanos::ZERO => self.schedule.read = now + after,
            Verdict::ReadAgain(_) => self.ask(&reading.source, now, actions),
            Verdict::AskWitness => self.ask_witness(now, None, actions),
            Verdict::Moved => self.moved(now, reading, trust, actions),
            Verdict::Lied => self.lied(now, deviation.by, actions),
        }
    }

    /// Whether a reading that agrees with what is expected leaves a doubt open all the same.
    fn stays_open(&mut self, now: Raw, reading: &Reading, deviation: Deviation) -> bool {
        let checked = self.trust(now, &reading.source) == Trust::Checked;
        let rate_error = self.expected_rate_error();
        let open = self.doubt.as_mut().filter(|doubt| {
            let decided = doubt.is_hearing() || doubt.is_accepted();
            checked && !decided
        });
        open.is_some_and(|doubt| {
            doubt.leaves_open(reading.raw, deviation, reading.bound, rate_error)
        })
    }

    /// How far the expectation may drift by itself.
    pub(super) fn expected_rate_error(&self) -> Ppb {
        Ppb(self.estimator.rate_error().0 + WANDER_PPB)
    }

    /// The reference did move against RAW; `reading` says where to.
    fn moved(&mut self, now: Raw, reading: &Reading, trust: Trust, actions: &mut Vec<Action>) {
        let Some(doubt) = self.doubt.take() else {
            return;
        };
        let by = doubt.claim().by;
        if trust == Trust::Checked && doubt.is_small() {
            let repeated = |at: Raw| now - at < SMALL_REPEAT;
            if self.schedule.small_move.is_some_and(repeated) {
                self.lied(now, by, actions);
                return;
            }
            self.schedule.small_move = Some(now);
        }
        let cause = self.cause_of_move(now, by);
        self.hint = None;
        if cause == Cause::HostRestore {
            self.estimator.restart(reading);
            self.settle_anew(now);
        } else {
            self.estimator.jump(reading);
        }
        let offset = reading.offset();
        if offset.abs() >= self.step {
            // What the reference's move does not account for, somebody in the guest did.
            let guest_moved = (offset - by).abs() > by.abs();
            let cause = if guest_moved { Cause::GuestStep } else { cause };
            self.begin_repair(now, cause, offset);
        } else {
            let why = format!("the reference moved by {by} for no known reason");
            self.alert(Alert::BoundExceeded, true, &why, actions);
        }
        self.believe(now, reading, actions);
    }

    /// Why the reference moved against RAW by `by`.
    fn cause_of_move(&self, now: Raw, by: Nanos) -> Cause {
        let just_switched = |at: Raw| now - at < Nanos::from_secs(1);
        match self.hinted(now) {
            Some(DetectedBy::Vmgenid | DetectedBy::Vmclock) => Cause::HostRestore,
            Some(_) if by > Nanos::ZERO => Cause::HostPause,
            _ if self.schedule.switched.is_some_and(just_switched) => Cause::SourceChange,
            // A machine that stood still finds the reference ahead, never behind.
            _ if by > Nanos::ZERO => Cause::HostPause,
            _ => Cause::HostStep,
        }
    }

    /// Takes a reading in and looks at the clock by it.
    fn believe(&mut self, now: Raw, reading: &Reading, actions: &mut Vec<Action>) {
        self.estimator.follow(reading);
        if self.trust(now, &reading.source) == Trust::Checked {
            let (rate, error) = (self.estimator.rate(), self.estimator.rate_error());
            if libm::fabs(rate.0) - error.0 > MAX_RATE.0 {
                self.estimator.unlearn();
                let why = format!("it runs {rate} against the machine's own counter");
                self.drop_followed(now, Alert::SourceLies, why, actions);
                return;
            }
        }
        self.ladder.good(reading);
        self.last.good = Some(now);
        self.last.offset = reading.offset();
        self.judge(now, &paired(reading), true, actions);
    }

    pub(super) fn trust(&self, now: Raw, source: &Source) -> Trust {
        if source.is_hypervisors() || self.hinted(now).is_some() {
            Trust::Full
        } else {
            Trust::Checked
        }
    }

    fn is_hearing(&self) -> bool {
        self.doubt.as_ref().is_some_and(Doubt::is_hearing)
    }

    /// Asks the next source that may know better; without one, the claim stands.
    pub(super) fn ask_witness(
        &mut self,
        now: Raw,
        after: Option<&Source>,
        actions: &mut Vec<Action>,
    ) {
        match self.ladder.witness_after(after) {
            Some(witness) => self.ask(&witness, now, actions),
            None => self.accept_claim(now, actions),
        }
    }

    /// What a witness says of the doubtful source.
    fn hear_witness(&mut self, now: Raw, reading: &Reading, actions: &mut Vec<Action>) {
        self.ladder.good(reading);
        let phase = if reading.method == Method::Rtc {
            RTC_PHASE
        } else {
            Nanos::ZERO
        };
        let testimony = match self.estimator.compare(reading) {
            Some(deviation) => Deviation {
                allowed: deviation.allowed + phase,
                ..deviation
            },
            None => Deviation {
                by: reading.offset(),
                allowed: reading.bound + phase + BOOT_AGREES,
            },
        };
        let Some(doubt) = &self.doubt else {
            return;
        };
        let claim = doubt.claim().by;
        let apart = claim - testimony.by;
        if !doubt.is_expected() && reading.source == Source::Rtc && apart.abs() > RTC_UNSET {
            let why = format!("it is {apart} behind the other source, so it can't have been set");
            self.ladder.lied(&reading.source, why.clone(), now);
            self.alert(Alert::SourceLies, true, &format!("rtc: {why}"), actions);
            self.ask_witness(now, Some(&reading.source), actions);
            return;
        }
        match doubt.hear(testimony, reading.bound + phase) {
            Verdict::Moved => self.accept_claim(now, actions),
            Verdict::Lied => {
                self.lied(now, claim, actions);
            }
            _ => self.ask_witness(now, Some(&reading.source), actions),
        }
    }

    /// The claim of the doubtful source is accepted: its next reading says where the reference is.
    fn accept_claim(&mut self, now: Raw, actions: &mut Vec<Action>) {
        if let Some(doubt) = &mut self.doubt {
            doubt.accept();
        }
        let source = self.ladder.followed().map(|rung| rung.source.clone());
        if let Some(source) = source {
            self.ask(&source, now, actions);
        }
    }

    /// The source followed contradicts itself or a witness.
    fn lied(&mut self, now: Raw, by: Nanos, actions: &mut Vec<Action>) {
        let at_boot = self
            .doubt
            .as_ref()
            .is_some_and(|doubt| !doubt.is_expected());
        self.estimator.unlearn();
        let why = if at_boot {
            format!(
                "it is {by} from the RTC, which is believed; should the RTC keep local time, start \
                 QEMU with -rtc base=utc"
            )
        } else {
            format!("it claims that the time is {by} from what is known")
        };
        self.drop_followed(now, Alert::SourceLies, why, actions);
    }
}
