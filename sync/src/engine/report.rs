//! What the engine tells of itself: the clock's part of the status record.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use noonmark_contract::record::{Boot, Seed, Status, Usage, VERSION};
use noonmark_contract::units::{Nanos, Raw, Utc};

use super::Engine;

impl Engine {
    /// The status at `now`. The shell fills in what the engine can't know: `seq`, `time_ns`,
    /// `uptime_ns`, `dropped`, `rejected`, `boot`, `init`, `kernel`, `clocksource`, `config`, `seed` and
    /// `services` are empty.
    #[must_use]
    pub fn status(&self, now: Raw) -> Status {
        let followed = self.ladder.followed();
        let poll = match followed {
            Some(rung) if !rung.source.is_immediate() => self.schedule.read_interval,
            _ => self.watch,
        };
        let (good, offset) = self.last_good();
        Status {
            v: VERSION,
            seq: 0,
            time_ns: Utc(0),
            uptime_ns: Nanos::ZERO,
            state: self.state,
            source: followed.map(|rung| rung.source.clone()),
            method: followed.and_then(|rung| rung.method),
            offset_ns: offset,
            bound_ns: self.bound(now),
            frequency_ppb: self.discipline.commanded().rate(),
            drift_ppb_per_s: self.estimator.drift_ppb_per_s(),
            jitter_ns: self.indicators.jitter(),
            since_good_ns: good.map_or(Nanos::MAX, |good| now - good),
            poll_ns: poll,
            sources: self.ladder.status(now),
            disruptions: self.indicators.disruptions(),
            recovery: self.indicators.recovery(),
            availability: self.indicators.availability(now),
            alerts: self.indicators.alerts(),
            dropped: 0,
            rejected: 0,
            boot: Boot::default(),
            init: Usage::default(),
            kernel: String::new(),
            clocksource: String::new(),
            config: BTreeMap::new(),
            seed: Seed::default(),
            services: Vec::new(),
            disks: Vec::new(),
        }
    }

    /// Standard deviation of the last offsets.
    #[must_use]
    pub fn jitter(&self) -> Nanos {
        self.indicators.jitter()
    }

    /// The largest error that the clock can have at `now`, as far as is known;
    /// [`Nanos::MAX`] before the first reading.
    #[must_use]
    pub fn bound(&self, now: Raw) -> Nanos {
        let prediction = self.predict(now);
        let expected = self.discipline.expected(now);
        let (Some(prediction), Some(realtime)) = (prediction, expected) else {
            return Nanos::MAX;
        };
        let offset = prediction.reference - (realtime + self.strayed());
        let late = (offset + prediction.late).abs();
        let early = (offset - prediction.early).abs();
        late.max(early) + self.discipline.lag()
    }
}
