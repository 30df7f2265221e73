//! The simulated machine's clocks, as data: what the host's clock, the guest's raw counter and
//! the guest's disciplined clock read at each instant of physical time.

use fastrand::Rng;
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};
use noonmark_sync::engine::KernelClock;

use crate::counter::Counter;
use crate::host_clock::{Correction, HostClock, START};

/// The guest's counter at that instant.
const UPTIME: i64 = 900_000_000;

/// The kernel refuses a tick outside this (kernel/time/ntp.c).
const TICK_US: core::ops::RangeInclusive<i64> = 9_000..=11_000;

/// Time between two timer ticks, in ns: 250 Hz.
const TIMER_TICK: i64 = 4_000_000;

/// errno of a value out of range.
const EINVAL: i32 = 22;

/// How the guest's oscillator behaves.
#[derive(Clone, Copy, Debug)]
pub struct Oscillator {
    /// Its constant error against physical time.
    pub drift_ppb: f64,
    /// Its random walk: standard deviation after one second.
    pub wander_ppb: f64,
    /// What the kernel's rounding adds to REALTIME.
    pub bias_ppb: f64,
}

/// How far an oscillator may wander from its drift.
const WANDER_LIMIT_PPB: f64 = 5_000.0;

/// All clocks.
#[derive(Debug)]
pub struct Clocks {
    now: i64,
    host: HostClock,
    oscillator: Oscillator,
    wander_ppb: f64,
    raw: Counter,
    realtime: Counter,
    kernel: KernelClock,
    /// The rate in force; the kernel takes up a new one at its next timer tick.
    rate_ppb: f64,
    takes_up_at: i64,
    was_set: bool,
}

impl Clocks {
    /// Clocks at physical time 0; the guest's is `offset` behind the host's.
    pub fn new(oscillator: Oscillator, offset: Nanos) -> Self {
        Self {
            now: 0,
            host: HostClock::new(),
            oscillator,
            wander_ppb: 0.0,
            raw: Counter::new(UPTIME),
            realtime: Counter::new(START - offset.0),
            kernel: KernelClock::NOMINAL,
            rate_ppb: 0.0,
            takes_up_at: 0,
            was_set: false,
        }
    }

    /// Physical time in ns.
    pub fn now(&self) -> i64 {
        self.now
    }

    pub fn host(&self) -> Utc {
        self.host.time()
    }

    /// The processor's counter, which runs on while the machine stands still.
    pub fn ticks(&self) -> u64 {
        (self.now as u64).wrapping_mul(12) / 5
    }

    pub fn raw(&self) -> Raw {
        Raw(self.raw.whole())
    }

    pub fn realtime(&self) -> Utc {
        Utc(self.realtime.whole())
    }

    /// The truth that everything is judged by: host minus guest.
    pub fn error(&self) -> Nanos {
        self.host() - self.realtime()
    }

    pub fn kernel(&self) -> KernelClock {
        self.kernel
    }

    /// Physical time until the guest's counter reads `raw`.
    pub fn until(&self, raw: Raw) -> i64 {
        (raw - self.raw()).0.max(0)
    }

    /// Lets physical time pass.
    pub fn advance(&mut self, ns: i64, rng: &mut Rng) {
        let ns = ns.max(0);
        let first = (self.takes_up_at - self.now).clamp(0, ns);
        self.pass(first, rng);
        if self.now >= self.takes_up_at {
            self.rate_ppb = self.kernel.rate().0;
        }
        self.pass(ns - first, rng);
    }

    fn pass(&mut self, ns: i64, rng: &mut Rng) {
        let seconds = ns as f64 / 1e9;
        let push = (rng.f64() - 0.5) * 3.46 * self.oscillator.wander_ppb * seconds.sqrt();
        self.wander_ppb = (self.wander_ppb + push).clamp(-WANDER_LIMIT_PPB, WANDER_LIMIT_PPB);
        let before = self.raw.whole();
        let drift_ppb = self.oscillator.drift_ppb + self.wander_ppb;
        self.raw.advance(ns, drift_ppb);
        let rate_ppb = self.rate_ppb + self.oscillator.bias_ppb;
        self.realtime.advance(self.raw.whole() - before, rate_ppb);
        self.host.pass(self.now, ns);
        self.now += ns;
    }

    /// The host stops the machine: only its own clock goes on.
    pub fn pause(&mut self, ns: i64) {
        self.host.pass(self.now, ns);
        self.now += ns;
    }

    /// The host's own clock is set.
    pub fn step_host(&mut self, by: Nanos) {
        self.host.step(by);
    }

    /// The host's own clock is corrected by its rate.
    pub fn correct_host(&mut self, correction: Correction) {
        self.host.correct(self.now, correction);
    }

    /// The machine goes on under another host, whose counter runs this much faster.
    pub fn migrate(&mut self, rate: Ppb) {
        self.oscillator.drift_ppb += rate.0;
    }

    /// Somebody sets REALTIME, the corrector included.
    pub fn step(&mut self, by: Nanos) {
        self.realtime.step(by);
        self.was_set = true;
    }

    /// adjtimex, as the kernel takes it.
    pub fn set_frequency(&mut self, clock: KernelClock) -> Result<(), i32> {
        if !TICK_US.contains(&clock.tick_us) {
            return Err(EINVAL);
        }
        let scaled = (clock.frequency.0 / 1e3 * 65_536.0).round() / 65_536.0 * 1e3;
        self.takes_up_at = (self.now / TIMER_TICK + 1) * TIMER_TICK;
        self.kernel = KernelClock {
            frequency: Ppb(scaled.clamp(-500_000.0, 500_000.0)),
            tick_us: clock.tick_us,
        };
        Ok(())
    }

    /// Whether REALTIME was set since the last call: the cancel-on-set timer.
    pub fn take_was_set(&mut self) -> bool {
        core::mem::take(&mut self.was_set)
    }
}
