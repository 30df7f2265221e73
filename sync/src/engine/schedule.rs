//! When what is due: readings of a source that is too dear for every watch tick, and adjustments of
//! the frequency. Both begin often and become rarer while all is quiet.

use noonmark_contract::config::network::NtpConfig;
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Raw};

use crate::estimator::Pace;

/// Time between two readings of a source that is too dear for every watch tick: at first, and
/// once all is quiet. The latter also bounds how late a silent source or a pause is noticed.
const SLOW_READ_FIRST: Nanos = Nanos::from_millis(100);
const SLOW_READ_LAST: Nanos = Nanos::from_millis(200);

/// The same for servers on a network, which are not ours to load: the first few soon, as chrony's
/// and ntpd's `iburst`; from there on [`Polls`] says.
const NETWORK_READ_FIRST: Nanos = Nanos::from_secs(2);

/// Time between two adjustments of the frequency: at first, and once all is quiet.
const SETTLE_FIRST: Nanos = Nanos::from_millis(40);
const SETTLE_LAST: Nanos = Nanos::from_secs(4);

/// Of so many wakes it is known how late they came. More than [`LATE_MAX`] is a pause of the machine.
const WAKES: usize = 4;
const LATE_MAX: Nanos = Nanos::from_millis(100);

/// A reference that has just changed its rate is likely to do it again, as a host does whose daemon
/// corrects its clock with each answer of a server. For so long it is watched [`QUICKER`] times as often:
/// what a change of rate costs until it is seen is proportional to the tick.
const RESTLESS: Nanos = Nanos::from_secs(10);
const QUICKER: i64 = 4;

/// A slew ends when PID 1 is woken to end it. Where that is late by l it has taken away l/τ too much of the
/// offset; with τ at least this many times the l to be expected, what is left is less than before.
const SLEW_PER_LATE: i64 = 4;

/// Time between two readings of servers on a network. It doubles from reading to reading up to `min`,
/// and on to `max` as long as the clock runs as expected; where it doesn't, it halves again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Polls {
    pub min: Nanos,
    pub max: Nanos,
}

/// When what is due, and since when what has been so.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The source followed is read next, if it isn't at every tick.
    pub read: Raw,
    pub read_interval: Nanos,
    pub polls: Polls,
    /// The frequency is adjusted next.
    pub settle: Raw,
    pub settle_interval: Nanos,
    /// The last small move of a checked source that was accepted.
    pub small_move: Option<Raw>,
    /// When the reference followed last changed its rate.
    pub moved: Option<Raw>,
    /// When the source followed last changed.
    pub switched: Option<Raw>,
    /// What was followed before it was lost.
    pub lost: Option<Source>,
    /// Since when nothing is followed.
    pub holdover: Option<Raw>,
    /// When the shell was asked to wake the engine, until it did.
    due: Option<Raw>,
    /// By how much the last wakes came late.
    late: [Nanos; WAKES],
}

impl Schedule {
    pub fn new(now: Raw) -> Self {
        Self {
            read: now,
            read_interval: SLOW_READ_FIRST,
            polls: Polls {
                min: NtpConfig::poll(NtpConfig::MIN_POLL),
                max: NtpConfig::poll(NtpConfig::MAX_POLL),
            },
            settle: now + SETTLE_FIRST,
            settle_interval: SETTLE_FIRST,
            small_move: None,
            moved: None,
            switched: None,
            lost: None,
            holdover: None,
            due: None,
            late: [Nanos::ZERO; WAKES],
        }
    }

    /// The shell is asked to wake the engine at `due`.
    pub fn wake_at(&mut self, due: Raw) {
        self.due = Some(due);
    }

    /// The shell woke the engine at `now`, since that was due.
    pub fn woke(&mut self, now: Raw) {
        if let Some(due) = self.due.take() {
            self.late.rotate_right(1);
            self.late[0] = (now - due).clamp(Nanos::ZERO, LATE_MAX);
        }
    }

    /// The watch tick at `now`, which is `usual` while the reference keeps its rate.
    pub fn tick(&self, now: Raw, usual: Nanos) -> Nanos {
        let is_restless = self.moved.is_some_and(|at| now - at < RESTLESS);
        Nanos(usual.0 / if is_restless { QUICKER } else { 1 })
    }

    /// The shortest time within which an offset may be slewed away: `least`, or longer where wakes come
    /// late again and again. A single late one, as after a pause, counts for nothing.
    pub fn slew_time(&self, least: Nanos) -> Nanos {
        let mut late = self.late;
        late.sort_unstable();
        least.max(Nanos(late[WAKES - 2].0 * SLEW_PER_LATE))
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

    /// `source`, which is followed, was read; `steady` where that brought nothing new.
    pub fn was_read(&mut self, now: Raw, source: &Source, steady: bool) {
        let interval = self.read_interval;
        self.read = now + interval;
        let twice = interval + interval;
        self.read_interval = match source {
            Source::Ntp if twice <= self.polls.min => twice,
            Source::Ntp if steady => twice.min(self.polls.max),
            Source::Ntp => Nanos(interval.0 / 2).max(self.polls.min.min(interval)),
            _ => twice.min(SLOW_READ_LAST),
        };
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
        self.settle_at(now + SETTLE_FIRST);
    }

    /// The frequency is adjusted next at `due`, and often from there on.
    pub fn settle_at(&mut self, due: Raw) {
        self.settle_interval = SETTLE_FIRST;
        self.settle = due;
    }

    /// The clock is being slewed by much: its frequency is adjusted often, and at once if it has not
    /// been lately.
    pub fn hurry(&mut self, now: Raw) {
        if self.settle_interval > SETTLE_FIRST {
            self.settle_at(now);
        }
    }

    /// Whether the source followed changed so lately that the frequency has not settled since.
    pub fn is_settling_after_switch(&self, now: Raw) -> bool {
        self.switched.is_some_and(|at| now - at < SETTLE_LAST)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// The intervals in seconds that follow one another in `count` readings.
    fn polls(schedule: &mut Schedule, count: usize, steady: bool) -> Vec<i64> {
        let reading = |_| {
            let now = schedule.read;
            schedule.was_read(now, &Source::Ntp, steady);
            (schedule.read - now).0 / 1_000_000_000
        };
        (0..count).map(reading).collect()
    }

    #[test]
    fn a_server_is_polled_less_and_less_while_the_clock_is_steady_and_more_when_it_is_not() {
        let mut schedule = Schedule::new(Raw(0));
        schedule.follow(Raw(0), &Source::Ntp, None);
        // Up to the least interval it makes no difference: the frequency is still being learnt.
        assert_eq!(polls(&mut schedule, 5, false), [2, 4, 8, 16, 32]);
        assert_eq!(polls(&mut schedule, 3, false), [64, 64, 64]);
        assert_eq!(
            polls(&mut schedule, 6, true),
            [64, 128, 256, 512, 1_024, 1_024]
        );
        assert_eq!(
            polls(&mut schedule, 6, false),
            [1_024, 512, 256, 128, 64, 64]
        );
    }

    #[test]
    fn the_intervals_are_the_configurations() {
        let mut schedule = Schedule::new(Raw(0));
        schedule.polls = Polls {
            min: Nanos::from_secs(16),
            max: Nanos::from_secs(32),
        };
        schedule.follow(Raw(0), &Source::Ntp, None);
        assert_eq!(polls(&mut schedule, 6, true), [2, 4, 8, 16, 32, 32]);
    }
}
