//! When what is due: readings of a source that is too dear for every watch tick, and adjustments of
//! the frequency. Both begin often and become rarer while all is quiet.

use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Raw};

use crate::estimator::Pace;

/// Time between two readings of a source that is too dear for every watch tick: at first, and
/// once all is quiet. The latter also bounds how late a silent source or a pause is noticed.
const SLOW_READ_FIRST: Nanos = Nanos::from_millis(100);
const SLOW_READ_LAST: Nanos = Nanos::from_millis(200);

/// The same for servers on a network, which are not ours to load.
const NETWORK_READ_FIRST: Nanos = Nanos::from_secs(2);
const NETWORK_READ_LAST: Nanos = Nanos::from_secs(32);

/// Time between two adjustments of the frequency: at first, and once all is quiet.
const SETTLE_FIRST: Nanos = Nanos::from_millis(40);
const SETTLE_LAST: Nanos = Nanos::from_secs(4);

/// When what is due, and since when what has been so.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The source followed is read next, if it isn't at every tick.
    pub read: Raw,
    pub read_interval: Nanos,
    /// The frequency is adjusted next.
    pub settle: Raw,
    pub settle_interval: Nanos,
    /// The last small move of a checked source that was accepted.
    pub small_move: Option<Raw>,
    /// When the source followed last changed.
    pub switched: Option<Raw>,
    /// What was followed before it was lost.
    pub lost: Option<Source>,
    /// Since when nothing is followed.
    pub holdover: Option<Raw>,
}

impl Schedule {
    pub fn new(now: Raw) -> Self {
        Self {
            read: now,
            read_interval: SLOW_READ_FIRST,
            settle: now + SETTLE_FIRST,
            settle_interval: SETTLE_FIRST,
            small_move: None,
            switched: None,
            lost: None,
            holdover: None,
        }
    }

    /// `source` is followed from `now` on, after `from`.
    pub fn follow(&mut self, now: Raw, source: &Source, from: Option<&Source>) {
        self.holdover = None;
        self.switched = from.is_some().then_some(now);
        self.read_interval = match source {
            Source::Ntp => NETWORK_READ_FIRST,
            _ => SLOW_READ_FIRST,
        };
    }

    /// `source`, which is followed, was read.
    pub fn was_read(&mut self, now: Raw, source: &Source) {
        let last = match source {
            Source::Ntp => NETWORK_READ_LAST,
            _ => SLOW_READ_LAST,
        };
        self.read = now + self.read_interval;
        self.read_interval = (self.read_interval + self.read_interval).min(last);
    }

    /// The frequency is adjusted now; `pace` says how long the next block should be.
    pub fn settles(&mut self, now: Raw, pace: Pace) {
        let interval = self.settle_interval;
        self.settle_interval = match pace {
            Pace::Faster => Nanos(interval.0 / 2).max(SETTLE_FIRST),
            Pace::Same => interval,
            Pace::Slower => (interval + interval).min(SETTLE_LAST),
        };
        self.settle = now + self.settle_interval;
    }

    /// Adjusts the frequency often again: what was known of it is void.
    pub fn settle_anew(&mut self, now: Raw) {
        self.settle_interval = SETTLE_FIRST;
        self.settle = now + SETTLE_FIRST;
    }

    /// Whether the source followed changed so lately that the frequency has not settled since.
    pub fn is_settling_after_switch(&self, now: Raw) -> bool {
        self.switched.is_some_and(|at| now - at < SETTLE_LAST)
    }
}
