//! What operators watch: disruptions by cause, time to repair, availability, jitter, alerts.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use libm::sqrt;
use noonmark_contract::record::{Alert, Cause, Recovery};
use noonmark_contract::units::{Nanos, Raw};

/// Repairs whose times are kept.
const REPAIRS: usize = 256;

/// Offsets that the jitter is taken over.
const OFFSETS: usize = 64;

/// Counters and histories of one boot.
#[derive(Debug, Default)]
pub(crate) struct Indicators {
    disruptions: BTreeMap<Cause, u64>,
    repairs: VecDeque<Nanos>,
    repaired: u64,
    offsets: VecDeque<Nanos>,
    first_sync: Option<Raw>,
    astray_since: Option<Raw>,
    astray: Nanos,
    alerts: BTreeSet<Alert>,
}

impl Indicators {
    pub fn count_disruption(&mut self, cause: Cause) {
        *self.disruptions.entry(cause).or_default() += 1;
    }

    pub fn disruptions(&self) -> BTreeMap<Cause, u64> {
        self.disruptions.clone()
    }

    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    pub fn add_repair(&mut self, took: Nanos) {
        self.repaired += 1;
        if self.repairs.len() == REPAIRS {
            self.repairs.pop_front();
        }
        self.repairs.push_back(took);
    }

    pub fn recovery(&self) -> Recovery {
        let mut sorted: Vec<Nanos> = self.repairs.iter().copied().collect();
        sorted.sort_unstable();
        Recovery {
            count: self.repaired,
            last_ns: self.repairs.back().copied().unwrap_or_default(),
            p50_ns: nearest_rank(&sorted, 50),
            p99_ns: nearest_rank(&sorted, 99),
            max_ns: sorted.last().copied().unwrap_or_default(),
        }
    }

    /// Adds an offset of the undisturbed clock.
    pub fn add_offset(&mut self, offset: Nanos) {
        if self.offsets.len() == OFFSETS {
            self.offsets.pop_front();
        }
        self.offsets.push_back(offset);
    }

    /// Forgets the offsets: what follows has nothing to do with them.
    pub fn forget_offsets(&mut self) {
        self.offsets.clear();
    }

    /// Standard deviation of the recent offsets.
    pub fn jitter(&self) -> Nanos {
        let count = self.offsets.len();
        if count < 2 {
            return Nanos::ZERO;
        }
        let mean = self.offsets.iter().map(|o| o.0 as f64).sum::<f64>() / count as f64;
        let squares = self.offsets.iter().map(|o| o.0 as f64 - mean);
        let sum: f64 = squares.map(|difference| difference * difference).sum();
        Nanos(libm::round(sqrt(sum / (count - 1) as f64)) as i64)
    }

    /// The clock is synced, for the first time or again.
    pub fn within_bound(&mut self, now: Raw) {
        self.first_sync.get_or_insert(now);
        if let Some(since) = self.astray_since.take() {
            self.astray += (now - since).max(Nanos::ZERO);
        }
    }

    /// The clock has been outside its bound, possibly from `since` on.
    pub fn outside_bound(&mut self, since: Raw) {
        self.astray_since.get_or_insert(since);
    }

    /// The share of time since the first sync that was spent within the bound; 0 before it.
    pub fn availability(&self, now: Raw) -> f64 {
        let Some(first) = self.first_sync else {
            return 0.0;
        };
        let total = (now - first).as_secs_f64();
        if total <= 0.0 {
            return 1.0;
        }
        let running = self.astray_since.map_or(Nanos::ZERO, |since| now - since);
        let astray = (self.astray + running.max(Nanos::ZERO)).as_secs_f64();
        (1.0 - astray / total).clamp(0.0, 1.0)
    }

    /// Raises or clears an alert; returns whether that is news.
    pub fn set_alert(&mut self, alert: Alert, standing: bool) -> bool {
        if standing {
            self.alerts.insert(alert)
        } else {
            self.alerts.remove(&alert)
        }
    }

    pub fn is_standing(&self, alert: Alert) -> bool {
        self.alerts.contains(&alert)
    }

    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.iter().copied().collect()
    }
}

/// The value at `percent` by nearest rank; zero of nothing.
fn nearest_rank(sorted: &[Nanos], percent: usize) -> Nanos {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut indicators = Indicators::default();
        assert_eq!(indicators.recovery(), Recovery::default());
        for took in (1..=100).rev() {
            indicators.add_repair(Nanos(took));
        }
        let expected = Recovery {
            count: 100,
            last_ns: Nanos(1),
            p50_ns: Nanos(50),
            p99_ns: Nanos(99),
            max_ns: Nanos(100),
        };
        assert_eq!(indicators.recovery(), expected);
    }

    #[test]
    fn availability_is_the_share_of_time_within_the_bound() {
        let mut indicators = Indicators::default();
        assert!(indicators.availability(Raw(50)) == 0.0);
        indicators.within_bound(Raw(1_000));
        indicators.outside_bound(Raw(2_000));
        assert!((indicators.availability(Raw(3_000)) - 0.5).abs() < 1e-9);
        indicators.within_bound(Raw(3_000));
        assert!((indicators.availability(Raw(11_000)) - 0.9).abs() < 1e-9);
    }

    #[test]
    fn an_alert_is_news_only_when_it_changes() {
        let mut indicators = Indicators::default();
        assert!(indicators.set_alert(Alert::SourceLost, true));
        assert!(!indicators.set_alert(Alert::SourceLost, true));
        assert_eq!(indicators.alerts(), [Alert::SourceLost]);
        assert!(indicators.set_alert(Alert::SourceLost, false));
        assert!(!indicators.set_alert(Alert::SourceLost, false));
    }
}
