//! What the discipline knows of the time outside: the host's own clock and UTC; and what it tells the
//! guest's programs of that.

use noonmark_contract::host_clock::HostClock;
use noonmark_contract::record::UtcUnknown;
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Raw};

use crate::clock::utc;
use crate::clock::vmclock::VmClock;
use crate::status::clockbound::ClockBound;

use super::Discipline;

impl Discipline {
    /// Tells programs of the guest the time's bound from here on.
    pub fn share_bound(&mut self, clockbound: ClockBound) {
        self.clockbound = Some(clockbound);
    }

    /// Tells them that the clock may be wrong, until the engine has had a look at it.
    pub fn distrust(&mut self) {
        if let Some(clockbound) = &mut self.clockbound {
            clockbound.distrust();
        }
    }

    /// What the host says of its own clock, and how long ago it said so.
    #[must_use]
    pub fn host_clock(&self, now: Raw) -> Option<(HostClock, Nanos)> {
        let page = self.vmclock.as_ref().and_then(VmClock::host_clock);
        page.map(|clock| (clock, Nanos::ZERO))
            .or_else(|| self.channel.told(now))
    }

    /// How far the clock may be from UTC.
    ///
    /// # Errors
    /// [`UtcUnknown`].
    pub fn utc_bound(&self, now: Raw) -> Result<Nanos, UtcUnknown> {
        let engine = &self.engine;
        let host = self.host_clock(now);
        utc::bound(
            engine.state(),
            self.followed.as_ref(),
            engine.bound(now),
            host,
        )
    }

    /// Whether the clock is left to another program.
    #[must_use]
    pub fn leaves_clock_alone(&self) -> bool {
        self.ladder.is_empty()
    }

    /// Whether the clock has been found right since `at`; nobody here knows of one that is left to another
    /// program.
    #[must_use]
    pub fn is_confirmed_since(&self, at: Raw, now: Raw) -> bool {
        self.leaves_clock_alone() || self.engine.is_confirmed_since(at, now)
    }

    /// TAI minus UTC in seconds, where the source followed, or the host behind it, says it.
    #[must_use]
    pub fn tai_offset_s(&self, now: Raw) -> Option<i32> {
        let offset = match self.followed.as_ref()? {
            Source::Phc(_) => self.phc_tai_offset_s,
            source if source.is_host_clock() => self.host_clock(now)?.0.tai_offset_s,
            _ => return None,
        };
        (offset > 0).then_some(offset)
    }

    /// Whether the kernel may call its clock synchronized.
    #[must_use]
    pub fn rtcsync(&self) -> bool {
        self.rtcsync
    }

    /// Tells programs of the guest how the clock stands now.
    pub(super) fn publish_bound(&mut self, now: Raw) {
        if self.clockbound.is_none() {
            return;
        }
        let utc = self.utc_bound(now);
        if let Some(clockbound) = &mut self.clockbound {
            let marker = self.vmclock.as_ref().and_then(VmClock::shared_marker);
            clockbound.publish(&self.engine, utc, marker);
        }
    }
}
