//! A token bucket: how many bytes a port may make PID 1 read.

use noonmark_contract::units::{Nanos, Raw};

/// Refills steadily up to its capacity; what is taken beyond that has to wait.
#[derive(Debug)]
pub struct TokenBucket {
    capacity: usize,
    tokens: usize,
    refill: Nanos,
    refilled_at: Raw,
}

impl TokenBucket {
    /// Full at `now`; an empty one is full again after `refill`.
    #[must_use]
    pub fn new(capacity: usize, refill: Nanos, now: Raw) -> Self {
        Self {
            capacity,
            tokens: capacity,
            refill,
            refilled_at: now,
        }
    }

    /// How many may be taken at `now`.
    pub fn available(&mut self, now: Raw) -> usize {
        let elapsed = (now - self.refilled_at).max(Nanos::ZERO).min(self.refill);
        let gained = i128::from(elapsed.0) * self.capacity as i128 / i128::from(self.refill.0);
        if gained > 0 {
            let gained = usize::try_from(gained).unwrap_or(self.capacity);
            self.tokens = (self.tokens + gained).min(self.capacity);
            self.refilled_at = now;
        }
        self.tokens
    }

    /// Takes `count` of those available.
    pub fn take(&mut self, count: usize) {
        self.tokens = self.tokens.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_allowance_refills_with_time_and_not_beyond_its_capacity() {
        let mut bucket = TokenBucket::new(1_000, Nanos::from_millis(100), Raw(0));
        assert_eq!(bucket.available(Raw(0)), 1_000);
        bucket.take(1_000);
        assert_eq!(bucket.available(Raw(0)), 0);
        assert_eq!(bucket.available(Raw(50_000_000)), 500);
        assert_eq!(bucket.available(Raw(10_000_000_000)), 1_000);
    }

    #[test]
    fn looking_often_does_not_round_the_refill_away() {
        let mut bucket = TokenBucket::new(10, Nanos(1_000), Raw(0));
        bucket.take(10);
        for now in 1..=1_000 {
            bucket.available(Raw(now));
        }
        assert_eq!(bucket.available(Raw(1_000)), 10);
    }
}
