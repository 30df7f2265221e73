//! What the guest's clock is told to do, and what it should therefore read.
//!
//! With f the rate that was commanded, as frequency and tick together, `CLOCK_REALTIME` runs
//! against RAW as
//!
//! ```text
//! R(r) = R_a + (r - r_a)(1 + f + β)
//! ```
//!
//! from an anchor (r_a, R_a). β, the *bias*, is what the kernel does on top of what it was told:
//! RAW's multiplier is rounded, the disciplined clock's is not (kernel/time/timekeeping.c), so the
//! two differ by up to some tens of ppb even at frequency 0. β is measured over stretches without
//! disturbance. A difference between R and this line is a step, or a rate, that somebody else gave
//! the clock.
//!
//! **Slewing.** With y the reference's rate against RAW and θ the offset left, the command
//!
//! ```text
//! f = y - β + θ / τ
//! ```
//!
//! brings the offset to 0 after τ, the time until the next command; there it is θ' = 0 plus the
//! error of y, so the loop neither rings nor lags: what filtering there is was done in the
//! estimator. θ / τ is held within what the policy allows, and the whole within what the kernel does.

use libm::fabs;
use noonmark_contract::sample::{Local, Method, Reading};
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};

use crate::deviation::Deviation;
use crate::kernel_clock::KernelClock;

/// The longest that a kernel may take to take up a rate: the next timer tick, at 100 Hz (those
/// since Linux 4.17 do so at once).
pub(crate) const TIMER_TICK: Nanos = Nanos::from_millis(10);

/// Disturbances of the clock against its line that are not worth a look: pairing noise, and the
/// time between a command and the timer tick that takes it up.
const DISTURBANCE_FLOOR: Nanos = Nanos::from_micros(1);

/// A foreign rate shows as such from here; a smaller one is found when the kernel is read back.
const DISTURBANCE_PPB: f64 = 20_000.0;

/// How long the bias is measured before it is believed: at first, and once it is known roughly.
const BIAS_SPAN_FIRST: Nanos = Nanos::from_secs(4);
const BIAS_SPAN_LAST: Nanos = Nanos::from_secs(64);

/// How well it must be measured, in ppb.
const BIAS_ERROR_PPB: f64 = 100.0;

/// A change of the rate beyond this ends the running measurement.
const SMALL_CHANGE_PPB: f64 = 500.0;

/// No kernel's rounding is more than this.
const MAX_BIAS_PPB: f64 = 2_000.0;

/// How REALTIME and RAW of a reading can be mispaired where the shell, not the driver, guest_clocks them.
const SHELL_PAIRING: Nanos = Nanos::from_micros(3);

/// The guest's clock as commanded.
#[derive(Debug)]
pub(crate) struct Discipline {
    commanded: KernelClock,
    bias_ppb: f64,
    bias_span: Nanos,
    anchor: Option<Anchor>,
    /// Until when the last command may not be in force yet, and what that can make of the clock.
    lag: (Raw, Nanos),
}

/// Where the clock is, and how it goes on if nothing disturbs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockForecast {
    /// The anchor.
    pub local: Local,
    /// What the clock gains on RAW.
    pub rate_ppb: f64,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    raw: Raw,
    realtime: Utc,
    /// When the clock was last read, on RAW.
    seen: Raw,
    /// How far off the pairing of the two can be.
    noise: Nanos,
    measurement: Option<BiasMeasurement>,
}

/// The running measurement of the bias.
#[derive(Clone, Copy, Debug)]
struct BiasMeasurement {
    /// Where it began, on both clocks.
    raw: Raw,
    realtime: Utc,
    /// What the clock was to gain since, in ns; summed unrounded, for a ppb is a ns a second.
    due_ns: f64,
}

/// The guest's clocks of a reading.
pub(crate) fn guest_clocks(reading: &Reading) -> Local {
    Local {
        realtime: reading.realtime,
        raw: reading.raw,
        bound: match reading.method {
            Method::Precise => Nanos(2),
            _ => SHELL_PAIRING,
        },
    }
}

impl Discipline {
    pub fn new() -> Self {
        Self {
            commanded: KernelClock::NOMINAL,
            bias_ppb: 0.0,
            bias_span: BIAS_SPAN_FIRST,
            anchor: None,
            lag: (Raw(0), Nanos::ZERO),
        }
    }

    /// What was last written to the kernel.
    pub fn commanded(&self) -> KernelClock {
        self.commanded
    }

    /// What the clock should read at `raw`; none before it was seen.
    pub fn expected(&self, raw: Raw) -> Option<Utc> {
        self.anchor.map(|anchor| self.along(&anchor, raw))
    }

    /// The clock's line from here on; none while a command may not be in force yet.
    pub fn forecast(&self) -> Option<ClockForecast> {
        let anchor = self.anchor.filter(|_| self.lag() == Nanos::ZERO)?;
        Some(ClockForecast {
            local: Local {
                realtime: anchor.realtime,
                raw: anchor.raw,
                bound: anchor.noise,
            },
            rate_ppb: self.rate_ppb(),
        })
    }

    /// How far [`Discipline::expected`] can be wrong because the kernel takes up a rate late.
    pub fn lag(&self) -> Nanos {
        let (until, most) = self.lag;
        match self.anchor {
            Some(anchor) if anchor.seen >= until => Nanos::ZERO,
            _ => most,
        }
    }

    /// How far the clock is off its line.
    pub fn compare(&self, local: &Local) -> Option<Deviation> {
        let anchor = self.anchor?;
        let elapsed = (local.raw - anchor.raw).abs();
        let foreign = Ppb(DISTURBANCE_PPB).over(elapsed);
        Some(Deviation {
            by: local.realtime - self.along(&anchor, local.raw),
            allowed: local.bound + anchor.noise + DISTURBANCE_FLOOR + foreign + self.lag(),
        })
    }

    /// Takes `local` for the new anchor. If the clock was disturbed since the last one, the
    /// measurement of its bias begins anew.
    pub fn observe(&mut self, local: &Local) {
        let mut anchor = Anchor {
            raw: local.raw,
            realtime: local.realtime,
            seen: local.raw,
            noise: local.bound,
            // What the kernel has yet to take up would show as a bias of the whole measurement.
            measurement: (local.raw >= self.lag.0).then(|| BiasMeasurement::beginning(local)),
        };
        let quiet = self.compare(local).filter(|deviation| !deviation.exceeds());
        if let (Some(_), Some(last)) = (quiet, self.anchor)
            && let Some(mut measurement) = last.measurement
        {
            measurement.due_ns += self.rate_ppb() * (local.raw - last.raw).as_secs_f64();
            anchor.measurement = Some(self.measure_bias(measurement, local));
        }
        self.anchor = Some(anchor);
    }

    /// The clock was stepped by `step` on our own behalf.
    pub fn stepped(&mut self, step: Nanos) {
        if let Some(anchor) = &mut self.anchor {
            anchor.realtime = anchor.realtime + step;
            if let Some(measurement) = &mut anchor.measurement {
                measurement.realtime = measurement.realtime + step;
            }
        }
    }

    /// The kernel took up `clock` at `now`.
    pub fn took_up(&mut self, clock: KernelClock, now: Raw) {
        if let Some(mut anchor) = self.anchor {
            anchor.realtime = self.along(&anchor, now);
            // The kernel takes a rate up at its next timer tick, which would show as a bias.
            let change = fabs(clock.rate().0 - self.commanded.rate().0);
            anchor.measurement = anchor.measurement.filter(|_| change <= SMALL_CHANGE_PPB);
            if let Some(measurement) = &mut anchor.measurement {
                measurement.due_ns += self.rate_ppb() * (now - anchor.raw).as_secs_f64();
            }
            anchor.raw = now;
            let unsure = TIMER_TICK + (now - anchor.seen).abs();
            self.lag = (now + TIMER_TICK, self.lag() + Ppb(change).over(unsure));
            self.anchor = Some(anchor);
        }
        self.commanded = clock;
    }

    /// The settings that follow a reference of this rate against RAW and take `offset` away within
    /// `within`, slewing by no more than `most`.
    pub fn command(&self, rate: Ppb, offset: Nanos, within: Nanos, most: Ppb) -> KernelClock {
        let slew = offset.0 as f64 / within.as_secs_f64().max(1e-3);
        let slew = slew.clamp(-most.0, most.0);
        KernelClock::with_rate(Ppb(rate.0 + slew - self.bias_ppb))
    }

    /// f + β.
    fn rate_ppb(&self) -> f64 {
        self.commanded.rate().0 + self.bias_ppb
    }

    fn along(&self, anchor: &Anchor, raw: Raw) -> Utc {
        let elapsed = raw - anchor.raw;
        anchor.realtime + elapsed + Ppb(self.rate_ppb()).over(elapsed)
    }

    /// Ends the measurement of the bias if it has gone on for long enough, and begins the next.
    fn measure_bias(&mut self, measurement: BiasMeasurement, local: &Local) -> BiasMeasurement {
        let span = local.raw - measurement.raw;
        let seconds = span.as_secs_f64();
        let error_ppb = 2.0 * local.bound.0 as f64 / seconds;
        if span < self.bias_span || error_ppb > BIAS_ERROR_PPB {
            return measurement;
        }
        let gained = (local.realtime - measurement.realtime) - span;
        let found = (gained.0 as f64 - measurement.due_ns) / seconds;
        self.bias_ppb = (self.bias_ppb + found).clamp(-MAX_BIAS_PPB, MAX_BIAS_PPB);
        self.bias_span = (self.bias_span + self.bias_span).min(BIAS_SPAN_LAST);
        BiasMeasurement::beginning(local)
    }
}

impl BiasMeasurement {
    fn beginning(local: &Local) -> Self {
        Self {
            raw: local.raw,
            realtime: local.realtime,
            due_ns: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::kernel_clock::RESOLUTION_PPB;

    use super::*;

    /// A clock that gains `ppb` on RAW, seen at `raw`.
    fn seen(raw: i64, ppb: f64) -> Local {
        let gained = Ppb(ppb).over(Nanos(raw));
        Local {
            realtime: Utc(1_000_000_000_000) + Nanos(raw) + gained,
            raw: Raw(raw),
            bound: Nanos(2),
        }
    }

    #[test]
    fn an_undisturbed_clock_stays_on_its_line_and_its_bias_is_learnt() {
        let mut discipline = Discipline::new();
        for tick in 0..1_000 {
            let local = seen(tick * 20_000_000, 45.0);
            let strayed = discipline.compare(&local).is_some_and(|d| d.exceeds());
            assert!(!strayed, "tick {tick}");
            discipline.observe(&local);
        }
        assert!(fabs(discipline.bias_ppb - 45.0) < 1.0);
    }

    #[test]
    fn a_step_shows_against_the_line_and_an_own_one_does_not() {
        let mut discipline = Discipline::new();
        discipline.observe(&seen(0, 0.0));
        let step = Nanos::from_millis(-50);
        let mut stepped = seen(20_000_000, 0.0);
        stepped.realtime = stepped.realtime + step;
        let foreign = discipline.compare(&stepped).expect("there is an anchor");
        assert!(foreign.exceeds());
        assert_eq!(foreign.by, step);
        discipline.stepped(step);
        let own = discipline.compare(&stepped).expect("there is an anchor");
        assert!(!own.exceeds());
    }

    #[test]
    fn half_a_permille_of_foreign_rate_shows_within_a_tick() {
        let mut discipline = Discipline::new();
        discipline.observe(&seen(0, 0.0));
        let foreign = discipline.compare(&seen(20_000_000, 500_000.0));
        assert!(foreign.is_some_and(|deviation| deviation.exceeds()));
    }

    #[test]
    fn the_command_follows_the_reference_and_takes_the_offset_away_in_time() {
        let mut discipline = Discipline::new();
        discipline.bias_ppb = 40.0;
        let second = Nanos::from_secs(1);
        let most = Ppb(20_000_000.0);
        let clock = discipline.command(Ppb(-23_000.0), Nanos(500), second, most);
        assert!(fabs(clock.rate().0 - (-23_000.0 + 500.0 - 40.0)) <= RESOLUTION_PPB);
        let limited = discipline.command(Ppb(0.0), Nanos::from_secs(-9), second, most);
        assert!(fabs(limited.rate().0 + most.0 + 40.0) <= RESOLUTION_PPB);
    }
}
