//! What passes between the engine and its shell.

use noonmark_contract::record::{DetectedBy, Event};
use noonmark_contract::sample::{Local, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Raw};

use crate::kernel_clock::KernelClock;

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
    /// Call again with [`DetectedBy::WatchTick`] no later than this. Replaces an earlier one.
    WakeAt(Raw),
    /// Tell the host.
    Emit(Event),
}

/// What to read for a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Glimpse {
    /// This source, for [`Engine::glance`](super::Engine::glance).
    Reading(Source),
    /// The guest's own clocks, for [`Engine::glance_local`](super::Engine::glance_local).
    Local,
}
