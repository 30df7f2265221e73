//! The engine: what happened goes in, what to do comes out.
//!
//! The shell (PID 1, or the simulator) owns the clocks and devices. It calls [`Engine::handle`]
//! with each [`Input`] and carries out the returned [`Action`]s in order, feeding back what each
//! of them yields, before it waits again.

use alloc::vec::Vec;

use crate::config::ClockConfig;
use crate::record::{DetectedBy, Event};
use crate::sample::{Local, ReadFailure, Reading, Source};
use crate::units::{Nanos, Ppb, Raw, Utc};

/// What the shell tells the engine.
#[derive(Debug, PartialEq)]
pub enum Input {
    /// Something may have disturbed the clock, or a watch tick came ([`DetectedBy::WatchTick`]).
    Wake(DetectedBy),
    /// The answer to [`Action::Read`].
    Read(Source, Result<Reading, ReadFailure>),
    /// The answer to [`Action::Step`], [`Action::SetFrequency`]: done, or the errno.
    Adjusted(Result<(), i32>),
    /// The answer to [`Action::ReadLocal`].
    Local(Local),
    /// The answer to [`Action::ReadKernel`].
    Kernel(Result<KernelClock, i32>),
    /// A device or port appeared or went away, so that the ladder should be tried again.
    SourcesChanged,
}

/// What `adjtimex` says of `CLOCK_REALTIME` (kernel/time/ntp.c).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelClock {
    /// `freq`: the frequency set, +-500 ppm.
    pub frequency: Ppb,
    /// `tick`: microseconds between two ticks of 1/100 s; 9000..=11000, normally 10000.
    pub tick_us: i64,
}

/// What the engine wants done, in this order.
#[derive(Debug, PartialEq)]
#[must_use]
pub enum Action {
    /// Take a reading of this source and feed it back as [`Input::Read`]. PHC and RTC answer at
    /// once; the host's channel answers later, or fails with `Timeout`.
    Read(Source),
    /// Read `CLOCK_REALTIME` and `CLOCK_MONOTONIC_RAW` at one instant and feed them back as
    /// [`Input::Local`]. Needs no source, so it works where the reference is slow or gone.
    ReadLocal,
    /// Read the kernel's clock discipline back, as [`Input::Kernel`].
    ReadKernel,
    /// Add this to `CLOCK_REALTIME` with ADJ_SETOFFSET; feed back [`Input::Adjusted`].
    Step(Nanos),
    /// Set frequency and tick; feed back [`Input::Adjusted`].
    SetFrequency(KernelClock),
    /// Call again with [`DetectedBy::WatchTick`] no later than this.
    WakeAt(Raw),
    /// Tell the host.
    Emit(Event),
}

/// The clock logic's whole state.
#[derive(Debug)]
pub struct Engine {
    config: ClockConfig,
    built: Utc,
}

impl Engine {
    /// A new engine that has seen nothing yet. `built` is the image's date: a reference before it
    /// is not believed.
    #[must_use]
    pub fn new(config: ClockConfig, built: Utc, _now: Raw) -> Self {
        Self { config, built }
    }

    /// Takes in what happened at `now` and appends what is to be done to `actions`.
    pub fn handle(&mut self, _now: Raw, _input: Input, _actions: &mut Vec<Action>) {
        let _ = (&self.config, self.built);
    }
}
