//! NTP as a client sees it (RFC 5905): packets, what one exchange says, and which servers agree.
//!
//! The client's own timestamps are `CLOCK_MONOTONIC_RAW`, as on the host's time channel, so that
//! neither a step nor slewing of the guest's clock in the middle of an exchange spoils it.

pub mod packet;
pub mod sock;

use packet::{Response, ResponseError};

use crate::units::{Nanos, Raw, Utc};

/// What one exchange with one server says: at `raw` it was `reference`, give or take `distance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// The middle of the exchange on the guest's raw clock.
    pub raw: Raw,
    /// The server's time then.
    pub reference: Utc,
    /// The root distance: how far that can be from UTC if the server is honest (RFC 5905, 10).
    pub distance: Nanos,
}

impl Measurement {
    /// Makes a measurement of an answer that arrived at `t4` to a request that was sent at `t1`.
    ///
    /// # Errors
    /// [`ResponseError::Impossible`] where the server would have held the request for longer than the
    /// whole exchange took, or its time went backwards.
    pub fn new(t1: Raw, t4: Raw, answer: &Response) -> Result<Self, ResponseError> {
        let held = answer.sent - answer.received;
        let delay = (t4 - t1) - held;
        // Two clocks differ in rate, so that a very short delay may come out below nothing.
        let skew = (t4 - t1).raw_skew();
        if held < Nanos::ZERO || delay < -skew || t4 < t1 {
            return Err(ResponseError::Impossible);
        }
        let delay = delay.max(Nanos::ZERO);
        let half = |span: Nanos| Nanos(span.0 / 2 + 1);
        Ok(Self {
            raw: t1 + half(t4 - t1),
            reference: answer.received + half(held),
            distance: half(delay)
                + half(answer.root_delay)
                + answer.root_dispersion
                + answer.precision
                + skew,
        })
    }

    /// The same, carried to another instant of the raw clock.
    #[must_use]
    pub fn at(&self, raw: Raw) -> Self {
        let elapsed = raw - self.raw;
        Self {
            raw,
            reference: self.reference + elapsed,
            distance: self.distance + elapsed.raw_skew() + Nanos(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(received: i64, sent: i64) -> Response {
        Response {
            stratum: 2,
            received: Utc(received),
            sent: Utc(sent),
            root_delay: Nanos(2_000),
            root_dispersion: Nanos(300),
            precision: Nanos(60),
        }
    }

    #[test]
    fn an_exchange_says_the_time_of_its_middle_within_half_its_delay_and_the_servers_distance() {
        let second = 1_000_000_000;
        let answer = answer(second + 500, second + 700);
        let measured = Measurement::new(Raw(10_000), Raw(11_200), &answer).unwrap();
        assert_eq!(measured.raw, Raw(10_601));
        assert_eq!(measured.reference, Utc(second + 601));
        assert_eq!(measured.distance, Nanos(501 + 1_001 + 300 + 60));
    }

    #[test]
    fn a_server_that_held_a_request_for_longer_than_it_took_is_not_believed() {
        let answer = answer(0, 5_000_000);
        let outcome = Measurement::new(Raw(0), Raw(1_000_000), &answer);
        assert_eq!(outcome, Err(ResponseError::Impossible));
    }

    #[test]
    fn a_measurement_that_is_carried_on_grows_less_sure() {
        let measured = Measurement {
            raw: Raw(0),
            reference: Utc(100),
            distance: Nanos(50),
        };
        let later = measured.at(Raw(1_000_000));
        assert_eq!(later.reference, Utc(1_000_100));
        assert_eq!(later.distance, Nanos(50 + 500 + 1));
    }
}
