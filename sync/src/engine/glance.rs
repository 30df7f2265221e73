//! Glances: what a watch tick costs while nothing happens.
//!
//! Nearly every watch tick finds the reference and the clock where they were expected, and all
//! that the engine makes of it is the next tick. A glance proves just that, with a few whole
//! numbers: once all is quiet, the estimator's and the clock's lines are written down for the next
//! [`HORIZON`], and a reading that lies on both needs nothing else. Whatever does not is left to a
//! full look ([`super::Input::Wake`]), which reads again.
//!
//! A glance never sees less than a full look would: it allows a reading no more than the estimator
//! does, and the clock far less ([`ON_LINE`]), so that a foreign rate is noticed no later.
//!
//! ```text
//! low - b <= reference - RAW - (x0 + y dt) <= high + b          b: the bound of the reading
//! |REALTIME - RAW - (R0 + f dt)| <= ON_LINE + bounds of the two pairings, and < room
//! ```
//!
//! where [low, high] is the estimator's interval, which each glance narrows as a full look would, and
//! the room is what is left of `step` if the offset grows by all that rates and wander allow. What
//! glances have read goes into the estimate: the mean into its running block, and the interval.

use libm::{ceil, fabs, round};
use noonmark_contract::record::{Alert, State};
use noonmark_contract::sample::{Local, Reading, Source};
use noonmark_contract::units::{Nanos, Raw, Utc};

use crate::estimator::Prediction;
use crate::ladder::Seen;

use super::Engine;
use super::track::paired;

/// For how long after a full look glances may do.
const HORIZON: Nanos = Nanos::from_millis(200);

/// How far a clock may be off its line for a glance to pass it. What is more, though too little to
/// be called a disturbance, is for a full look to take in, so that the stated bound includes it.
const ON_LINE: Nanos = Nanos(100);

/// What rounding to whole nanoseconds can add up to on either side of a comparison.
const ROUNDING: Nanos = Nanos(2);

/// Slopes count in this many parts of one: over [`HORIZON`], one is 0.05 ns, and the product of the
/// steepest slope (500 ppm and the tick's 10 %) with a whole second fits.
const SLOPE_SCALE: f64 = 4_294_967_296.0;

/// What to read for a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Glimpse {
    /// This source, for [`Engine::glance`].
    Reading(Source),
    /// The guest's own clocks, for [`Engine::glance_local`].
    Local,
}

/// A straight line over the time since the envelope's origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    base: i64,
    slope: i64,
}

/// What is expected until `until`, and what the glances since have found.
#[derive(Debug)]
pub(super) struct Envelope {
    origin: Raw,
    until: Raw,
    watch: Nanos,
    /// Reference minus RAW, by the middle of the estimator's interval as it was at the origin.
    reference: Line,
    /// That interval, counted from the line.
    interval: Interval,
    /// REALTIME minus RAW.
    clock: Line,
    /// The pairing of the clock's line.
    noise: Nanos,
    /// What the clock may be off its line without being wrong.
    room: Nanos,
    is_local: bool,
    found: Found,
}

/// Where the reference can be; carried on, each end moves out by the spread.
#[derive(Clone, Copy, Debug)]
struct Interval {
    /// Since the origin.
    at: Nanos,
    low: Nanos,
    high: Nanos,
    spread: Line,
}

/// What glances found.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    count: i64,
    /// The last one's instant, offset, and distance of the clock from its line.
    at: Raw,
    offset: Nanos,
    strayed: Nanos,
    /// Sums over all of them: time since the origin, deviation from the reference's line.
    elapsed_ns: i64,
    deviation_ns: i64,
    bound: Nanos,
}

/// What glances have read, for the estimator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glanced {
    /// The mean's instant.
    pub at: Raw,
    /// The mean of reference minus RAW: whole nanoseconds, and the rest.
    pub difference: i64,
    pub rest_ns: f64,
    pub count: f64,
    pub bound: Nanos,
    /// The last reading's instant, and between what reference minus RAW was then.
    pub last: Raw,
    pub low: i64,
    pub high: i64,
}

impl Line {
    /// `ppb` is its slope; `base_ns` its value at the origin.
    pub fn new(base_ns: i64, ppb: f64) -> Self {
        Self {
            base: base_ns,
            slope: round(ppb / 1e9 * SLOPE_SCALE) as i64,
        }
    }

    fn at(&self, elapsed: Nanos) -> i64 {
        self.base
            .saturating_add(elapsed.0.saturating_mul(self.slope) >> 32)
    }
}

impl Engine {
    /// What to read at a watch tick that comes at `now`, if a glance may do; none where it takes a
    /// full look: [`super::Input::Wake`].
    pub fn glimpse(&mut self, now: Raw) -> Option<Glimpse> {
        if self.envelope.is_none() {
            self.envelope = self.expect_quiet();
        }
        let envelope = self.envelope.as_ref()?;
        if now >= envelope.until {
            return None;
        }
        if envelope.is_local {
            return Some(Glimpse::Local);
        }
        let followed = self.ladder.followed()?;
        Some(Glimpse::Reading(followed.source.clone()))
    }

    /// The answer to [`Glimpse::Reading`]: when to look next, if all is as expected; else a full
    /// look is due now.
    pub fn glance(&mut self, reading: &Reading) -> Option<Raw> {
        let envelope = self.envelope.as_mut()?;
        let elapsed = envelope.elapsed(reading.raw)?;
        let difference = reading.reference.0.saturating_sub(reading.raw.0);
        let deviation = Nanos(difference.saturating_sub(envelope.reference.at(elapsed)));
        let interval = envelope.interval.carried(elapsed);
        if envelope.is_local || !interval.explains(deviation, reading.bound) {
            return None;
        }
        let strayed = envelope.strayed(&paired(reading), elapsed)?;
        envelope.interval = interval.narrowed(deviation, reading.bound);
        let found = &mut envelope.found;
        found.offset = reading.offset();
        self.indicators.add_offset(found.offset);
        found.elapsed_ns = found.elapsed_ns.saturating_add(elapsed.0);
        found.deviation_ns = found.deviation_ns.saturating_add(deviation.0);
        found.bound = found.bound.max(reading.bound);
        Some(envelope.pass(reading.raw, strayed))
    }

    /// The answer to [`Glimpse::Local`], likewise.
    pub fn glance_local(&mut self, local: &Local) -> Option<Raw> {
        let envelope = self.envelope.as_mut()?;
        let elapsed = envelope.elapsed(local.raw)?;
        let strayed = envelope.strayed(local, elapsed)?;
        Some(envelope.pass(local.raw, strayed))
    }

    /// Takes in what glances have found; what was expected is void.
    pub(super) fn end_glances(&mut self) {
        let Some(envelope) = self.envelope.take() else {
            return;
        };
        if envelope.found.count == 0 {
            return;
        }
        self.last.quiet = Some(envelope.found.at);
        if let Some(glanced) = envelope.glanced() {
            self.last.good = Some(envelope.found.at);
            self.last.offset = envelope.found.offset;
            let last = Seen {
                at: envelope.found.at,
                offset: envelope.found.offset,
                bound: envelope.found.bound,
            };
            self.ladder.followed_well(envelope.found.count as u64, last);
            self.estimator.follow_glances(&glanced);
        }
    }

    /// The last good reading, glances included: when, and the clock's offset by it.
    pub(super) fn last_good(&self) -> (Option<Raw>, Nanos) {
        match &self.envelope {
            Some(envelope) if envelope.found.count > 0 && !envelope.is_local => {
                (Some(envelope.found.at), envelope.found.offset)
            }
            _ => (self.last.good, self.last.offset),
        }
    }

    /// Where the reference is at `now`, glances included.
    pub(super) fn predict(&self, now: Raw) -> Option<Prediction> {
        let prediction = self.estimator.predict(now)?;
        let glanced = self
            .envelope
            .as_ref()
            .filter(|envelope| envelope.found.count > 0 && !envelope.is_local);
        Some(glanced.map_or(prediction, |envelope| envelope.narrow(now, &prediction)))
    }

    /// How far the clock was off its line at the last glance.
    pub(super) fn strayed(&self) -> Nanos {
        self.envelope
            .as_ref()
            .map_or(Nanos::ZERO, |envelope| envelope.found.strayed)
    }

    /// What a quiet future looks like; none while anything is open.
    fn expect_quiet(&self) -> Option<Envelope> {
        let rung = self.ladder.followed()?;
        let is_local = !rung.source.is_immediate();
        let is_open = self.state != State::Synced
            || self.doubt.is_some()
            || self.repair.is_some()
            || self.look.is_some()
            || self.writing.is_some()
            || self.asking_kernel.is_some()
            || self.ladder.is_any_asked()
            || self.indicators.is_standing(Alert::BoundExceeded);
        // A source that is to be checked is compared with more than one line.
        if is_open || !(is_local || rung.source.is_hypervisors()) {
            return None;
        }
        let sight = self.discipline.sight()?;
        let outlook = self.estimator.outlook(sight.local.raw)?;
        let horizon = HORIZON.as_secs_f64();
        let offset = (outlook.reference - sight.local.realtime).abs();
        let drift = fabs(outlook.rate_ppb - sight.rate_ppb) + outlook.spread_ppb;
        let room = self.step - offset - Nanos(ceil(drift * horizon) as i64) - ROUNDING;
        let half = Nanos(ceil(outlook.half_ns) as i64 + 1);
        let mut until = (sight.local.raw + HORIZON).min(self.schedule.settle);
        if is_local {
            until = until.min(self.schedule.read);
        }
        if let Some(retry) = self.ladder.next_candidate() {
            until = until.min(retry);
        }
        Some(Envelope {
            origin: sight.local.raw,
            until,
            watch: self.watch,
            reference: Line::new(outlook.difference, outlook.rate_ppb),
            interval: Interval {
                at: Nanos::ZERO,
                low: -half,
                high: half,
                spread: Line::new(1, outlook.spread_ppb),
            },
            clock: Line::new(sight.local.realtime.0 - sight.local.raw.0, sight.rate_ppb),
            noise: sight.local.bound,
            room,
            is_local,
            found: Found::default(),
        })
    }
}

impl Envelope {
    /// Time since the origin; none where the envelope does not reach.
    fn elapsed(&self, raw: Raw) -> Option<Nanos> {
        (raw >= self.origin && raw < self.until).then(|| raw - self.origin)
    }

    /// How far the clock is off its line; none if that is worth a full look.
    fn strayed(&self, local: &Local, elapsed: Nanos) -> Option<Nanos> {
        let difference = local.realtime.0.saturating_sub(local.raw.0);
        let strayed = Nanos(difference.saturating_sub(self.clock.at(elapsed)));
        let on_line = strayed.abs() <= ON_LINE + self.noise + local.bound;
        (on_line && strayed.abs() < self.room).then_some(strayed)
    }

    fn pass(&mut self, at: Raw, strayed: Nanos) -> Raw {
        self.found.count += 1;
        (self.found.at, self.found.strayed) = (at, strayed);
        at + self.watch
    }

    fn narrow(&self, now: Raw, prediction: &Prediction) -> Prediction {
        let elapsed = now - self.origin;
        let interval = self.interval.carried(elapsed);
        let line = Utc(now.0.saturating_add(self.reference.at(elapsed)));
        let (low, high) = (line + interval.low, line + interval.high);
        let reference = prediction.reference.max(low).min(high);
        Prediction {
            reference,
            early: reference - low,
            late: high - reference,
        }
    }

    fn glanced(&self) -> Option<Glanced> {
        let found = &self.found;
        if self.is_local || found.count == 0 {
            return None;
        }
        let elapsed = Nanos(found.elapsed_ns / found.count);
        let last = self.reference.at(self.interval.at);
        Some(Glanced {
            at: self.origin + elapsed,
            difference: self.reference.at(elapsed),
            rest_ns: found.deviation_ns as f64 / found.count as f64,
            count: found.count as f64,
            bound: found.bound,
            last: found.at,
            low: last.saturating_add(self.interval.low.0),
            high: last.saturating_add(self.interval.high.0),
        })
    }
}

impl Interval {
    /// At another time, later as a rule; rounded outward.
    fn carried(&self, at: Nanos) -> Self {
        let wider = Nanos(self.spread.at((at - self.at).abs()));
        Self {
            at,
            low: self.low - wider,
            high: self.high + wider,
            spread: self.spread,
        }
    }

    /// Whether a reading can be this far off the line.
    fn explains(&self, deviation: Nanos, bound: Nanos) -> bool {
        let allowed = bound - ROUNDING;
        self.low - allowed <= deviation && deviation <= self.high + allowed
    }

    /// What this and a reading that it explains have in common; rounded outward.
    fn narrowed(&self, deviation: Nanos, bound: Nanos) -> Self {
        let bound = bound + Nanos(1);
        let (low, high) = (deviation - bound, deviation + bound);
        Self {
            low: self.low.max(low).min(high),
            high: self.high.min(high).max(low),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests;
