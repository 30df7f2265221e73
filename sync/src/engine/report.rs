//! What the engine tells of itself: its state, and the clock's part of the status record.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use noonmark_contract::channel;
use noonmark_contract::record::{Boot, Seed, State, Status, Usage, VERSION};
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};

use crate::kernel_clock::MAX_RATE;
use crate::ladder::Rung;
use crate::suspicion::Suspicion;

use super::state::{Contested, Engine, Notice};

impl Engine {
    /// How many exchanges a reading of the host's channel should take at present: many while the
    /// clock is not synced or the source is suspect, few in the steady state.
    #[must_use]
    pub fn burst_exchanges(&self) -> u8 {
        let quiet = self.state == State::Synced && self.suspicion.is_none();
        if quiet && self.schedule.settle_interval > Nanos::from_secs(1) {
            2
        } else {
            channel::BURST
        }
    }

    /// The clock's state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether there is reason to think that the clock is wrong, though nothing is certain yet: the
    /// source followed contradicts what was expected of it by more than a drift would, or the host
    /// has said that it interfered. Ends with the answer of the source or of another, or the lack of it.
    #[must_use]
    pub fn suspects_clock(&self, now: Raw) -> bool {
        // What is small is watched for seconds, and is most often not the clock's fault.
        let contradicted = |suspicion: &Suspicion| suspicion.is_expected() && !suspicion.is_small();
        let answered = |hint: Notice| self.last.good.is_some_and(|good| good >= hint.at);
        let interfered = self.ladder.followed().is_some() && self.hinted(now).is_some();
        self.suspicion.as_ref().is_some_and(contradicted)
            || (interfered && self.hint.is_some_and(|hint| !answered(hint)))
    }

    /// Whether a reading since `at` has found the clock right, or a repair has made it so.
    #[must_use]
    pub fn is_confirmed_since(&self, at: Raw, now: Raw) -> bool {
        let (good, _) = self.last_good();
        self.state == State::Synced
            && !self.suspects_clock(now)
            && good.is_some_and(|good| good >= at)
    }

    /// How often the clock was put right after it had been right, since boot.
    #[must_use]
    pub fn repairs(&self) -> u64 {
        self.indicators.repaired()
    }

    /// The status at `now`. The shell fills in what the engine can't know: `seq`, `time_ns`,
    /// `uptime_ns`, `utc_bound_ns`, `dropped`, `rejected`, `boot`, `init`, `kernel`, `clocksource`, `config`, `seed` and
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
            utc_bound_ns: None,
            utc_unknown: None,
            host_clock: None,
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
            frozen: false,
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
        late.max(early) + self.discipline.lag() + self.contested(now)
    }

    /// By how much the reference can be off its estimate if a source that contradicts that, or did when
    /// it was let go, is right after all.
    pub(super) fn contested(&self, now: Raw) -> Nanos {
        let open = self.contest();
        let Some(contested) = open.as_ref().or(self.contested.as_ref()) else {
            return Nanos::ZERO;
        };
        let by = contested.by + contested.rate.over((now - contested.since).abs());
        // However it drifts, both lie in what the source followed says.
        let followed = self.ladder.followed();
        let other = followed.filter(|rung| rung.source != contested.source);
        let most = other.and_then(Rung::last_bound).map(|last| last + last);
        match most {
            Some(most) if open.is_none() => by.min(most),
            _ => by,
        }
    }

    /// What a small contradiction that is not decided yet says of the reference's rate.
    pub(super) fn contest(&self) -> Option<Contested> {
        let suspicion = self.suspicion.as_ref();
        let suspicion = suspicion.filter(|s| s.is_expected() && s.is_small())?;
        let (claim, first) = (suspicion.claim(), suspicion.first());
        let gap = (first.raw - self.last.good?).as_secs_f64().max(1e-3);
        let by = claim.by.abs() + claim.allowed;
        let rate = by.0 as f64 / gap;
        Some(Contested {
            source: self.ladder.followed()?.source.clone(),
            since: first.raw,
            by,
            rate: Ppb(rate.max(suspicion.fastest().0).min(MAX_RATE.0)),
        })
    }
}
