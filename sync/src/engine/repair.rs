//! The clock found wrong: stepped, and the step verified; a foreign frequency put back.

use alloc::format;
use alloc::vec::Vec;

use noonmark_contract::record::{Alert, Cause, DetectedBy, Event, State};
use noonmark_contract::units::{Nanos, Raw};

use crate::discipline::TIMER_TICK;
use crate::kernel_clock::KernelClock;
use crate::policy::Reason;

use super::messages::Action;
use super::state::{ClockCheck, Engine, Notice, ReadBack, Repair, Write};

/// Steps that one look at the clock may take, should something keep setting it wrong; after that,
/// one at each watch tick.
const STEPS: u8 = 4;

/// An offset that operators are told of.
const LARGE_OFFSET: Nanos = Nanos::from_secs(5);

impl Engine {
    /// Notes why the clock is wrong and who noticed.
    pub(super) fn begin_repair(&mut self, now: Raw, cause: Cause, offset: Nanos) {
        let by = DetectedBy::WatchTick;
        let detected = self.look.take().unwrap_or(Notice { by, at: now });
        if let Some(repair) = &mut self.repair {
            // One disturbance on top of another is one repair, from the first's detection on.
            if !repair.announced {
                repair.cause = cause;
            }
            return;
        }
        self.repair = Some(Repair {
            cause,
            detected,
            offset,
            steps: 0,
            written: false,
            announced: false,
            rate_from: now,
        });
        self.indicators.forget_offsets();
        if cause == Cause::Boot {
            self.indicators.count_disruption(cause);
            return;
        }
        self.state = State::Disrupted;
        let since = match detected.by {
            DetectedBy::CancelOnSet => detected.at,
            _ => self.last.quiet.unwrap_or(detected.at),
        };
        self.indicators.outside_bound(since);
    }

    pub(super) fn start_repairing(
        &mut self,
        now: Raw,
        check: &ClockCheck,
        moved: Option<Nanos>,
        actions: &mut Vec<Action>,
    ) {
        let was_set = self
            .look
            .is_some_and(|look| look.by == DetectedBy::CancelOnSet);
        let cause = if was_set || moved.is_some() {
            Cause::GuestStep
        } else if self.schedule.is_settling_after_switch(now) {
            Cause::SourceChange
        } else {
            Cause::Unknown
        };
        self.begin_repair(now, cause, check.offset);
        match moved {
            // Nothing told of a step: a wrong rate may be at work, and would go on.
            Some(by) if !was_set => self.read_back(ReadBack::Disturbed(by), actions),
            _ => self.step_by(check.offset, actions),
        }
    }

    pub(super) fn go_on_repairing(
        &mut self,
        now: Raw,
        check: &ClockCheck,
        by_source: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(repair) = &self.repair else {
            return;
        };
        let fresh = repair.steps == 0 && repair.cause == Cause::Boot;
        let wrong = check.wrong
            || (fresh
                && check.offset.abs() > check.bound
                && self.policy.steps(Reason::Start, check.offset));
        if wrong {
            if repair.steps < STEPS {
                self.step_by(check.offset, actions);
            }
            return;
        }
        if now < repair.rate_from {
            let due = repair.rate_from;
            self.wake_at(due, actions);
            return;
        }
        // A source that is in question itself can't verify it, but the guest's own clocks can.
        let in_question = self.contest().is_some();
        match self.ladder.followed().map(|rung| rung.source.clone()) {
            Some(source) if !by_source && !in_question => self.ask(&source, now, actions),
            _ => self.finish_repair(now, check, actions),
        }
    }

    /// Gives a repair that has used up its steps one more, at a new tick.
    pub(super) fn allow_step(&mut self) {
        if let Some(repair) = &mut self.repair {
            repair.steps = repair.steps.min(STEPS - 1);
        }
    }

    fn step_by(&mut self, offset: Nanos, actions: &mut Vec<Action>) {
        self.writing = Some(Write::Step(offset));
        actions.push(Action::Step(offset));
        if let Some(repair) = &mut self.repair {
            repair.steps += 1;
            repair.written = true;
        }
        self.announce(actions);
    }

    /// Tells the host of the disruption; after the action that repairs it, which must not wait.
    fn announce(&mut self, actions: &mut Vec<Action>) {
        let Some(repair) = &mut self.repair else {
            return;
        };
        if repair.announced || repair.cause == Cause::Boot {
            return;
        }
        repair.announced = true;
        self.indicators.count_disruption(repair.cause);
        let offset = repair.offset;
        actions.push(Action::Emit(Event::Disrupted {
            cause: repair.cause,
            detected_by: repair.detected.by,
            offset_ns: offset,
        }));
        if offset.abs() > LARGE_OFFSET {
            let why = format!("the clock was {offset} from the reference");
            self.alert(Alert::LargeOffset, true, &why, actions);
        }
    }

    fn finish_repair(&mut self, now: Raw, check: &ClockCheck, actions: &mut Vec<Action>) {
        self.announce(actions);
        let Some(repair) = self.repair.take() else {
            return;
        };
        self.settle_state();
        self.last.quiet = Some(now);
        self.indicators.within_bound(now);
        if check.offset.abs() > check.bound {
            self.slew_away(now, check.offset, actions);
        } else if repair.written || repair.cause == Cause::Boot {
            // A step cleared the kernel's own NTP state.
            self.write_frequency(self.discipline.commanded(), actions);
        }
        if repair.cause == Cause::Boot {
            self.report_sync(&repair, check, actions);
        } else {
            let took = now - repair.detected.at;
            self.indicators.add_repair(took);
            actions.push(Action::Emit(Event::Recovered {
                cause: repair.cause,
                detected_by: repair.detected.by,
                took_ns: took,
                residual_ns: check.offset,
                bound_ns: check.error(),
            }));
        }
        for alert in [
            Alert::LargeOffset,
            Alert::CannotCorrect,
            Alert::BoundExceeded,
        ] {
            self.alert(alert, false, "the clock is right again", actions);
        }
    }

    fn report_sync(&mut self, repair: &Repair, check: &ClockCheck, actions: &mut Vec<Action>) {
        let followed = self.ladder.followed();
        let Some((source, method)) = followed.and_then(|r| Some((r.source.clone(), r.method?)))
        else {
            return;
        };
        actions.push(Action::Emit(Event::Synced {
            source,
            method,
            offset_ns: repair.offset,
            bound_ns: check.error(),
        }));
    }

    /// The answer to `ReadKernel`.
    pub(super) fn kernel(
        &mut self,
        now: Raw,
        outcome: Result<KernelClock, i32>,
        actions: &mut Vec<Action>,
    ) {
        let why = self.reading_back.take();
        let commanded = self.discipline.commanded();
        let foreign = outcome.ok().filter(|clock| !clock.same(&commanded));
        if let Some(foreign) = foreign {
            let offset = self.offset_at(now);
            self.discipline.took_up(foreign, now);
            self.begin_repair(now, Cause::GuestFrequency, offset);
            let restored = if self.is_slewing() {
                self.steady()
            } else {
                commanded
            };
            self.write_frequency(restored, actions);
            self.announce(actions);
        } else if self.repair.is_some() {
            actions.push(Action::ReadLocal);
        } else {
            match why {
                Some(ReadBack::Settle) => self.slew(self.offset_at(now), actions),
                // The source is too coarse to tell, but the clock was on its line and was moved
                // off it: it is put back, and stays as right as it was.
                Some(ReadBack::Disturbed(by)) if self.policy.steps(Reason::Guest, by) => {
                    self.begin_repair(now, Cause::GuestStep, -by);
                    self.step_by(-by, actions);
                }
                Some(ReadBack::Disturbed(_)) => {
                    self.slew_away(now, self.offset_at(now), actions);
                }
                None => {}
            }
        }
    }

    /// The answer to `Step` or `SetFrequency`.
    pub(super) fn adjusted(
        &mut self,
        now: Raw,
        outcome: Result<(), i32>,
        actions: &mut Vec<Action>,
    ) {
        let Some(write) = self.writing.take() else {
            return;
        };
        match (write, outcome) {
            (Write::Step(by), Ok(())) => {
                self.discipline.stepped(by);
                if self.is_slewing() {
                    // It would go on, and undo each step before that is verified.
                    self.write_frequency(self.steady(), actions);
                } else {
                    self.look_after_step(now, actions);
                }
            }
            (Write::Frequency(clock), Ok(())) => {
                self.discipline.took_up(clock, now);
                if let Some(repair) = &mut self.repair {
                    repair.rate_from = now + TIMER_TICK;
                    actions.push(Action::ReadLocal);
                }
            }
            (_, Err(errno)) => {
                let why = format!("the kernel refuses to adjust the clock: errno {errno}");
                self.alert(Alert::CannotCorrect, true, &why, actions);
            }
        }
    }

    /// Verifies a step by the quickest means there is.
    fn look_after_step(&mut self, now: Raw, actions: &mut Vec<Action>) {
        match self.ladder.followed() {
            Some(rung) if rung.source.is_immediate() && self.contest().is_none() => {
                let source = rung.source.clone();
                self.ask(&source, now, actions);
            }
            _ => actions.push(Action::ReadLocal),
        }
    }
}
