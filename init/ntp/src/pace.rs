//! When one server may be asked: several times soon, seldom after that, and never against its will.

use noonmark_contract::units::{Nanos, Raw};

/// Time between two requests to a server (RFC 8633, 3.2; chrony's and ntpd's `iburst`): so many in a
/// row may come soon, after that they must average to less.
const SPACING: Nanos = Nanos::from_secs(2);
const AVERAGE: Nanos = Nanos::from_secs(16);
const BURST: i64 = 8;

/// The longest that a server which asks to be asked less often is left alone.
const SLOWEST: Nanos = Nanos::from_secs(1_024);

/// A bucket of requests.
#[derive(Debug)]
pub struct Pace {
    last: Option<Raw>,
    /// What is in the bucket, in nanoseconds of `average` each.
    credit: Nanos,
    average: Nanos,
    refused: bool,
}

/// Nothing has been asked yet.
impl Default for Pace {
    fn default() -> Self {
        Self {
            last: None,
            credit: Nanos(AVERAGE.0 * BURST),
            average: AVERAGE,
            refused: false,
        }
    }
}

impl Pace {
    /// When the next request may be sent; none where the server wants no more of them.
    pub fn free_at(&self, now: Raw) -> Option<Raw> {
        if self.refused {
            return None;
        }
        // The credit is that of the last request; it has grown since.
        let Some(last) = self.last else {
            return Some(now);
        };
        let pause = SPACING.max(self.average - self.credit);
        Some((last + pause).max(now))
    }

    /// Whether it may be sent now.
    pub fn is_free(&self, now: Raw) -> bool {
        self.free_at(now).is_some_and(|at| at <= now)
    }

    /// A request is sent.
    pub fn spend(&mut self, now: Raw) {
        let elapsed = self.last.map_or(Nanos::ZERO, |last| now - last);
        let most = Nanos(self.average.0.saturating_mul(BURST));
        self.credit = (self.credit + elapsed).min(most) - self.average;
        self.last = Some(now);
    }

    /// The server says in a kiss-o'-death how it wants to be asked (RFC 5905, 7.4): RATE asks for
    /// less, DENY and RSTR for nothing any more.
    pub fn kissed(&mut self, code: [u8; 4]) {
        match &code {
            b"DENY" | b"RSTR" => self.refused = true,
            _ => self.average = Nanos(self.average.0.saturating_mul(2)).min(SLOWEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks as often as it may from `from` on, and counts that in `for_s`.
    fn sent(pace: &mut Pace, from: Raw, for_s: i64) -> usize {
        let may = |tick: &i64| {
            let now = from + Nanos::from_millis(tick * 100);
            let free = pace.is_free(now);
            if free {
                pace.spend(now);
            }
            free
        };
        (0..for_s * 10).filter(may).count()
    }

    #[test]
    fn a_server_is_asked_a_few_times_soon_and_then_seldom() {
        let mut pace = Pace::default();
        let first = sent(&mut pace, Raw(0), 20);
        assert!((8..=9).contains(&first), "{first} in the first 20 s");
        let later = sent(&mut pace, Raw(0) + Nanos::from_secs(20), 160);
        assert!((9..=11).contains(&later), "{later} in the next 160 s");
    }

    #[test]
    fn a_server_that_asks_for_less_is_asked_less_and_one_that_refuses_not_at_all() {
        let mut limiting = Pace::default();
        sent(&mut limiting, Raw(0), 20);
        limiting.kissed(*b"RATE");
        let later = sent(&mut limiting, Raw(0) + Nanos::from_secs(20), 160);
        assert!((4..=6).contains(&later), "{later} in 160 s");
        let mut refusing = Pace::default();
        refusing.kissed(*b"DENY");
        assert_eq!(sent(&mut refusing, Raw(0), 100), 0);
    }
}
