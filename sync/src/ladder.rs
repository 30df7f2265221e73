//! The ladder of sources: which one is followed, which are worth another try, and what each of
//! them has been worth so far.
//!
//! A rung that fails is left alone for a while that doubles with each failure; a falseticker
//! for much longer. A rung better than the one followed is probed, and climbed back to after
//! [`PROBES`] good probes in a row, so that a source that comes and goes does not take the clock
//! along each time.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use noonmark_contract::record::{LastReading, SourceStatus};
use noonmark_contract::sample::{Method, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Raw};

/// Good probes in a row before a better source is followed again, and before a falseticker is.
const PROBES: u32 = 3;
const PROBES_OF_FALSETICKER: u32 = 6;

/// Time between two probes of a source that answers.
const PROBE_INTERVAL: Nanos = Nanos::from_millis(200);

/// How long a source is left alone after its first failure, and at most.
const RETRY_FIRST: Nanos = Nanos::from_millis(100);
const RETRY_LAST: Nanos = Nanos::from_secs(10);

/// How long a source is barred once it was found to be a falseticker, and at most.
const BAR_FIRST: Nanos = Nanos::from_secs(10);
const BAR_LAST: Nanos = Nanos::from_secs(600);

/// An answer that has not come after this never will: the shell's own deadlines are far shorter.
const ANSWER_DEADLINE: Nanos = Nanos::from_secs(3);

/// The same for servers on a network: the client may have to wait until it may ask them again, and
/// for the network to come up.
const NETWORK_DEADLINE: Nanos = Nanos::from_secs(8);

/// Failures in a row of the source followed, after which another is looked for.
const FAILURES: u32 = 3;
const FAILURES_WAITED_FOR: u32 = 2;

/// One source and its record.
#[derive(Debug)]
pub(crate) struct Rung {
    pub source: Source,
    /// How its last reading was taken.
    pub method: Option<Method>,
    good: u64,
    bad: u64,
    /// Whether each of the last eight readings was good, the newest in the lowest bit.
    reach: u8,
    last: Option<GoodReading>,
    last_failure: Option<String>,
    /// Whether the last attempt found that it is not there, or refuses.
    is_gone: bool,
    failures: u32,
    /// How often it was found to be a falseticker since it last agreed with the others.
    false_counts: u32,
    probes: u32,
    first_probe: Option<Probe>,
    asked: Option<Raw>,
    retry_at: Option<Raw>,
    backoff: Nanos,
}

/// What a good reading said of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoodReading {
    pub at: Raw,
    pub offset: Nanos,
    pub bound: Nanos,
}

/// What a probe found: where its source stands to the estimate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub at: Raw,
    /// Its deviation from the estimate's line.
    pub deviation: Nanos,
    pub bound: Nanos,
}

/// All sources, best first, and the one followed.
#[derive(Debug)]
pub(crate) struct Ladder {
    rungs: Vec<Rung>,
    followed: Option<usize>,
}

/// What becomes of the source followed after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// It may be tried again.
    Retry,
    /// It has failed too often, or for good.
    Lost,
}

impl Ladder {
    pub fn new(sources: &[Source]) -> Self {
        let rung = |source: &Source| Rung {
            source: source.clone(),
            method: None,
            good: 0,
            bad: 0,
            reach: 0,
            last: None,
            last_failure: None,
            is_gone: false,
            failures: 0,
            false_counts: 0,
            probes: 0,
            first_probe: None,
            asked: None,
            retry_at: None,
            backoff: RETRY_FIRST,
        };
        Self {
            rungs: sources.iter().map(rung).collect(),
            followed: None,
        }
    }

    /// The rung followed now.
    pub fn followed(&self) -> Option<&Rung> {
        self.followed.map(|at| &self.rungs[at])
    }

    pub fn is_followed(&self, source: &Source) -> bool {
        self.followed().is_some_and(|rung| rung.source == *source)
    }

    /// Follows `source` from now on.
    pub fn follow(&mut self, source: &Source) {
        self.followed = self.position(source);
    }

    /// Follows none. The lost one is tried again later, like any other.
    pub fn let_go(&mut self) -> Option<Source> {
        let at = self.followed.take()?;
        Some(self.rungs[at].source.clone())
    }

    /// The best source to try now: any that is due if none is followed, else one better than it.
    /// None while an answer is still awaited from such a one.
    pub fn candidate(&self, now: Raw) -> Option<Source> {
        let rungs = &self.rungs[..self.followed.unwrap_or(self.rungs.len())];
        let due = |rung: &&Rung| rung.retry_at.is_none_or(|at| at <= now);
        let next = rungs
            .iter()
            .find(|rung| rung.asked.is_some() || due(rung))?;
        next.asked.is_none().then(|| next.source.clone())
    }

    /// When [`Ladder::candidate`] is next worth asking, no answer being awaited; none where nothing
    /// better than the one followed stands above it.
    pub fn next_candidate(&self) -> Option<Raw> {
        let rungs = &self.rungs[..self.followed.unwrap_or(self.rungs.len())];
        let due = |rung: &Rung| rung.retry_at.unwrap_or(Raw(i64::MIN));
        rungs.iter().map(due).min()
    }

    /// Whether a source better than `source` may still answer: time servers, for which a network has to
    /// come up first, and any that neither lacks nor has been found to be a falseticker.
    pub fn may_do_better(&self, source: &Source) -> bool {
        let better = &self.rungs[..self.position(source).unwrap_or(0)];
        better
            .iter()
            .any(|rung| rung.false_counts == 0 && (rung.source == Source::Ntp || !rung.is_gone))
    }

    /// Sources other than the one followed that could cross-check it, from the one after `last` on. The
    /// RTC has no say in what a majority of time servers has agreed on.
    pub fn cross_check_after(&self, last: Option<&Source>) -> Option<Source> {
        let from = last
            .and_then(|last| self.position(last))
            .map_or(0, |at| at + 1);
        let may = |at: &usize| {
            let rung = &self.rungs[*at];
            let has_say = !(self.is_followed(&Source::Ntp) && rung.source == Source::Rtc);
            has_say && Some(*at) != self.followed && rung.false_counts == 0 && rung.asked.is_none()
        };
        let at = (from..self.rungs.len()).find(may)?;
        Some(self.rungs[at].source.clone())
    }

    /// A reading of `source` was asked for.
    pub fn asked(&mut self, source: &Source, now: Raw) {
        if let Some(rung) = self.rung_mut(source) {
            rung.asked = Some(now);
        }
    }

    /// Whether an answer is still awaited.
    pub fn is_asked(&self, source: &Source) -> bool {
        self.position(source)
            .is_some_and(|at| self.rungs[at].asked.is_some())
    }

    /// No answer that is still awaited will come.
    pub fn forget_asked(&mut self) {
        for rung in &mut self.rungs {
            rung.asked = None;
        }
    }

    /// `source` has answered, well or badly.
    pub fn answered(&mut self, source: &Source) {
        if let Some(rung) = self.rung_mut(source) {
            rung.asked = None;
        }
    }

    /// A source whose answer is overdue beyond hope.
    pub fn overdue(&self, now: Raw) -> Option<Source> {
        let overdue = |rung: &&Rung| {
            let deadline = match rung.source {
                Source::Ntp => NETWORK_DEADLINE,
                _ => ANSWER_DEADLINE,
            };
            rung.asked.is_some_and(|at| now - at > deadline)
        };
        self.rungs
            .iter()
            .find(overdue)
            .map(|rung| rung.source.clone())
    }

    /// A reading was good and is used.
    pub fn good(&mut self, reading: &Reading) {
        if let Some(rung) = self.rung_mut(&reading.source) {
            rung.was_good(1, GoodReading::in_reading(reading));
            rung.failures = 0;
            rung.is_gone = false;
            rung.retry_at = None;
            rung.backoff = RETRY_FIRST;
            rung.method = Some(reading.method);
        }
    }

    /// Readings of the source followed were good, `count` of them, one after the other.
    pub fn followed_well(&mut self, count: u64, last: GoodReading) {
        if let Some(at) = self.followed {
            self.rungs[at].was_good(count, last);
        }
    }

    /// A probe of a source that is not followed was good; returns whether the source may be
    /// followed now.
    pub fn probed(&mut self, reading: &Reading, probe: Probe) -> bool {
        let source = &reading.source;
        self.good(reading);
        let needed = if self.is_falseticker(source) {
            PROBES_OF_FALSETICKER
        } else {
            PROBES
        };
        let Some(rung) = self.rung_mut(source) else {
            return false;
        };
        rung.first_probe.get_or_insert(probe);
        rung.probes += 1;
        rung.retry_at = Some(probe.at + PROBE_INTERVAL);
        let proven = rung.probes >= needed;
        if proven {
            rung.probes = 0;
            rung.first_probe = None;
            rung.retry_at = None;
        }
        proven
    }

    /// The first of the probes that `source` is being proven by.
    pub fn first_probe(&self, source: &Source) -> Option<Probe> {
        self.position(source)
            .and_then(|at| self.rungs[at].first_probe)
    }

    /// A reading failed or was not believed.
    pub fn bad(&mut self, source: &Source, why: ReadFailure, now: Raw) -> AfterFailure {
        let Some(rung) = self.rung_mut(source) else {
            return AfterFailure::Retry;
        };
        rung.is_gone = matches!(why, ReadFailure::Absent | ReadFailure::Refused(_));
        rung.fail(why.to_string(), rung.backoff, now);
        rung.backoff = double(rung.backoff, RETRY_LAST);
        let limit = match why {
            ReadFailure::Absent => 1,
            ReadFailure::Refused(_) => FAILURES,
            ReadFailure::Timeout | ReadFailure::Garbage => FAILURES_WAITED_FOR,
        };
        if rung.failures >= limit {
            AfterFailure::Lost
        } else {
            AfterFailure::Retry
        }
    }

    /// A reading that stands alone: the next one contradicts it.
    pub fn outlier(&mut self, source: &Source, why: String) {
        if let Some(rung) = self.rung_mut(source) {
            rung.was_bad(why);
        }
    }

    /// `source` was found to be a falseticker; it is barred for a while.
    pub fn mark_falseticker(&mut self, source: &Source, why: String, now: Raw) {
        if let Some(rung) = self.rung_mut(source) {
            let shift = rung.false_counts.min(16);
            rung.false_counts += 1;
            let bar = Nanos(BAR_FIRST.0.saturating_mul(1 << shift)).min(BAR_LAST);
            rung.fail(why, bar, now);
        }
    }

    /// Whether `source` has to prove itself against the present estimate before it is followed.
    pub fn is_falseticker(&self, source: &Source) -> bool {
        self.position(source)
            .is_some_and(|at| self.rungs[at].false_counts > 0)
    }

    /// Whether any source does.
    pub fn is_any_falseticker(&self) -> bool {
        self.rungs.iter().any(|rung| rung.false_counts > 0)
    }

    /// Whether any answer is awaited.
    pub fn is_any_asked(&self) -> bool {
        self.rungs.iter().any(|rung| rung.asked.is_some())
    }

    /// Whether `source` stands above the one followed.
    pub fn is_better(&self, source: &Source) -> bool {
        match (self.position(source), self.followed) {
            (Some(at), Some(followed)) => at < followed,
            (at, _) => at.is_some(),
        }
    }

    /// `source` agrees with the estimate again.
    pub fn clear_falseticker(&mut self, source: &Source) {
        if let Some(rung) = self.rung_mut(source) {
            rung.false_counts = 0;
        }
    }

    /// Every source may be tried at once: the machine, or its devices, are no longer the same. A
    /// falseticker still has to prove itself.
    pub fn retry_all(&mut self) {
        for rung in &mut self.rungs {
            rung.retry_at = None;
            rung.backoff = RETRY_FIRST;
        }
    }

    /// Each source's record.
    pub fn status(&self, now: Raw) -> Vec<SourceStatus> {
        let record = |rung: &Rung| SourceStatus {
            source: rung.source.clone(),
            good: rung.good,
            bad: rung.bad,
            reach: rung.reach,
            last: rung.last.map(|last| LastReading {
                ago_ns: now - last.at,
                offset_ns: last.offset,
                bound_ns: last.bound,
            }),
            last_failure: rung.last_failure.clone(),
        };
        self.rungs.iter().map(record).collect()
    }

    fn position(&self, source: &Source) -> Option<usize> {
        self.rungs.iter().position(|rung| rung.source == *source)
    }

    fn rung_mut(&mut self, source: &Source) -> Option<&mut Rung> {
        self.rungs.iter_mut().find(|rung| rung.source == *source)
    }
}

impl GoodReading {
    fn in_reading(reading: &Reading) -> Self {
        Self {
            at: reading.raw,
            offset: reading.offset(),
            bound: reading.bound,
        }
    }
}

impl Rung {
    /// The bound of its last good reading.
    pub fn last_bound(&self) -> Option<Nanos> {
        self.last.map(|last| last.bound)
    }

    fn was_good(&mut self, count: u64, last: GoodReading) {
        self.good += count;
        for _ in 0..count.min(8) {
            self.reach = self.reach << 1 | 1;
        }
        self.last = Some(last);
    }

    fn was_bad(&mut self, why: String) {
        self.bad += 1;
        self.reach <<= 1;
        self.last_failure = Some(why);
    }

    fn fail(&mut self, why: String, pause: Nanos, now: Raw) {
        self.was_bad(why);
        self.failures += 1;
        self.probes = 0;
        self.first_probe = None;
        self.retry_at = Some(now + pause);
    }
}

fn double(span: Nanos, limit: Nanos) -> Nanos {
    (span + span).min(limit)
}

#[cfg(test)]
mod tests;
