//! The clock found right: kept so by its frequency.

use alloc::vec::Vec;

use noonmark_contract::record::Alert;
use noonmark_contract::units::{Nanos, Ppb, Raw};

use crate::discipline::TIMER_TICK;
use crate::kernel_clock::KernelClock;

use super::messages::Action;
use super::state::{ClockCheck, Engine, ReadBack, Write};

/// A slew by less than this moves the clock by less than a microsecond in a watch tick.
const SLEWS: Ppb = Ppb(50_000.0);

impl Engine {
    /// The clock is right; its frequency may be due.
    pub(super) fn quiet(
        &mut self,
        now: Raw,
        check: &ClockCheck,
        by_source: bool,
        actions: &mut Vec<Action>,
    ) {
        self.last.quiet = Some(now);
        if by_source {
            self.settle_state();
            self.indicators.add_offset(self.last.offset);
            if self.suspicion.is_none() && !self.policy.is_wrong(check.offset) {
                let why = "the reference agrees with what is expected of it";
                self.alert(Alert::BoundExceeded, false, why, actions);
            }
        }
        if now < self.schedule.settle {
            return;
        }
        if self.suspicion.is_some() {
            // A slew is for the time until the next command. As long as the source is suspect there
            // is none, and the slew would go on beyond what it was for.
            self.slew(Nanos::ZERO, actions);
            return;
        }
        self.schedule.settles(now, self.estimator.settle());
        self.read_back(ReadBack::Settle, actions);
    }

    pub(super) fn read_back(&mut self, why: ReadBack, actions: &mut Vec<Action>) {
        self.reading_back = Some(why);
        actions.push(Action::ReadKernel);
    }

    /// Follows the reference's rate and takes `offset` away until the next command.
    pub(super) fn slew(&mut self, offset: Nanos, actions: &mut Vec<Action>) {
        let within = self.schedule.slew_time(self.schedule.settle_interval);
        let rate = self.estimator.rate();
        let most = self.policy.max_slew();
        let clock = self.discipline.command(rate, offset, within, most);
        if clock != self.discipline.commanded() {
            self.write_frequency(clock, actions);
        }
    }

    /// The settings that follow the reference's rate and slew nothing.
    pub(super) fn steady(&self) -> KernelClock {
        let second = Nanos::from_secs(1);
        let (rate, most) = (self.estimator.rate(), self.policy.max_slew());
        self.discipline.command(rate, Nanos::ZERO, second, most)
    }

    /// Whether the settings in force slew by more than what the reference's rate can be wrong by.
    pub(super) fn is_slewing(&self) -> bool {
        let off = self.steady().rate().0 - self.discipline.commanded().rate().0;
        libm::fabs(off) > SLEWS.0 + self.estimator.rate_error().0
    }

    /// Takes an offset away that is too small to be stepped and too large to wait for the next adjustment.
    pub(super) fn slew_away(&mut self, now: Raw, offset: Nanos, actions: &mut Vec<Action>) {
        let (rate, most) = (self.estimator.rate(), self.policy.max_slew());
        let within = self.schedule.slew_time(TIMER_TICK);
        let clock = self.discipline.command(rate, offset, within, most);
        self.write_frequency(clock, actions);
        let end = now + within;
        self.schedule.settle_at(end);
        self.wake_at(end.min(now + self.tick(now)), actions);
    }

    pub(super) fn wake_at(&mut self, due: Raw, actions: &mut Vec<Action>) {
        self.schedule.wake_at(due);
        actions.push(Action::WakeAt(due));
    }

    pub(super) fn write_frequency(&mut self, clock: KernelClock, actions: &mut Vec<Action>) {
        self.writing = Some(Write::Frequency(clock));
        actions.push(Action::SetFrequency(clock));
    }
}
