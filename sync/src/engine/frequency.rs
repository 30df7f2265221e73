//! The clock found right: kept so by its frequency.

use alloc::vec::Vec;

use noonmark_contract::record::Alert;
use noonmark_contract::units::{Nanos, Raw};

use crate::estimator::Pace;

use super::repair::Found;
use super::{Action, Engine, KernelClock, SETTLE_FIRST, SETTLE_LAST, Why, Write};

impl Engine {
    /// The clock is right; its frequency may be due.
    pub(super) fn quiet(
        &mut self,
        now: Raw,
        found: &Found,
        by_source: bool,
        actions: &mut Vec<Action>,
    ) {
        self.last.quiet = Some(now);
        if by_source {
            self.settle_state();
            self.indicators.add_offset(self.last.offset);
            if self.doubt.is_none() && found.offset.abs() < self.step {
                let why = "the reference agrees with what is expected of it";
                self.alert(Alert::BoundExceeded, false, why, actions);
            }
        }
        if now < self.schedule.settle {
            return;
        }
        if self.doubt.is_some() {
            self.end_slew(actions);
            return;
        }
        let interval = self.schedule.settle_interval;
        self.schedule.settle_interval = match self.estimator.settle() {
            Pace::Faster => Nanos(interval.0 / 2).max(SETTLE_FIRST),
            Pace::Same => interval,
            Pace::Slower => (interval + interval).min(SETTLE_LAST),
        };
        self.schedule.settle = now + self.schedule.settle_interval;
        self.ask_kernel(Why::Settle, actions);
    }

    /// A slew is for the time until the next command. Where none comes, because the source is in
    /// doubt, it would go on beyond what it was for.
    fn end_slew(&mut self, actions: &mut Vec<Action>) {
        self.slew(Nanos::ZERO, actions);
    }

    /// Adjusts the frequency often again: what was known of it is void.
    pub(super) fn settle_anew(&mut self, now: Raw) {
        self.schedule.settle_interval = SETTLE_FIRST;
        self.schedule.settle = now + SETTLE_FIRST;
    }

    pub(super) fn ask_kernel(&mut self, why: Why, actions: &mut Vec<Action>) {
        self.asking_kernel = Some(why);
        actions.push(Action::ReadKernel);
    }

    pub(super) fn adjust_frequency(&mut self, now: Raw, actions: &mut Vec<Action>) {
        self.slew(self.offset_at(now), actions);
    }

    /// Follows the reference's rate and takes `offset` away until the next command.
    fn slew(&mut self, offset: Nanos, actions: &mut Vec<Action>) {
        let (rate, within) = (self.estimator.rate(), self.schedule.settle_interval);
        let clock = self.discipline.command(rate, offset, within);
        if clock != self.discipline.commanded() {
            self.write_frequency(clock, actions);
        }
    }

    /// The offset expected at `now`, without reading anything.
    pub(super) fn offset_at(&self, now: Raw) -> Nanos {
        let prediction = self.estimator.predict(now);
        let expected = self.discipline.expected(now);
        match (prediction, expected) {
            (Some(prediction), Some(realtime)) => prediction.reference - realtime,
            _ => Nanos::ZERO,
        }
    }

    pub(super) fn write_frequency(&mut self, clock: KernelClock, actions: &mut Vec<Action>) {
        self.writing = Some(Write::Frequency(clock));
        actions.push(Action::SetFrequency(clock));
    }
}
