//! The guest's end of the host's time channel: carries out [`Burst`]s on the port without ever
//! waiting for it.

use noonmark_contract::channel::{self, Answer, Decoder, FRAME_LEN, Frame as _, Request, Told};
use noonmark_contract::host_clock::HostClock;
use noonmark_contract::sample::{Method, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Raw, Utc};
use noonmark_linux::clocks::{self, Sandwich};
use noonmark_linux::ports::{Port, PortError, Transfer};
use noonmark_sync::burst::{Burst, Exchange, Next};

use crate::token_bucket::TokenBucket;

/// What the host may send at once, and how long until it may do so again. A burst needs 320 bytes.
const ALLOWED_BYTES: usize = 8 * 1024;
const ALLOWED_EVERY: Nanos = Nanos::from_millis(100);

/// How often the host is asked for its clock's figures where its time is not needed.
const TOLD_EVERY: Nanos = Nanos::from_secs(10);

/// How many bytes one read takes.
const READ_BYTES: usize = 8 * FRAME_LEN;

/// The local clocks are read this often when a reading is placed, and the tightest is used.
const PLACING_READS: usize = 3;

/// The port and the burst under way.
#[derive(Debug)]
pub struct TimeChannel {
    port: Option<Port>,
    connected: bool,
    built: Utc,
    burst: Option<Burst>,
    last_sequence: u32,
    decoder: Decoder<Answer>,
    /// Finds in the same bytes what the host adds to its answers.
    told_decoder: Decoder<Told>,
    /// What it said last of its clock, and when.
    told: Option<(HostClock, Raw)>,
    asked: Option<Raw>,
    bucket: TokenBucket,
    unread: bool,
    /// When the burst wants to be asked again.
    deadline: Option<Raw>,
}

impl TimeChannel {
    /// Not attached to a port yet. A host's time before `built` will not be believed.
    #[must_use]
    pub fn new(built: Utc, now: Raw) -> Self {
        Self {
            port: None,
            connected: false,
            built,
            burst: None,
            last_sequence: 0,
            decoder: Decoder::default(),
            told_decoder: Decoder::default(),
            told: None,
            asked: None,
            bucket: TokenBucket::new(ALLOWED_BYTES, ALLOWED_EVERY, now),
            unread: false,
            deadline: None,
        }
    }

    /// Looks for the port after something was plugged in or out; gives it where it is new.
    ///
    /// # Errors
    /// [`PortError`] where it is there but can't be opened.
    pub fn rescan(&mut self) -> Result<Option<&Port>, PortError> {
        if self.port.as_ref().is_some_and(|port| !port.exists()) {
            self.port = None;
            self.connected = false;
        }
        if self.port.is_none() {
            self.port = Port::open(channel::PORT)?;
            return Ok(self.port.as_ref());
        }
        Ok(None)
    }

    /// Whether a host is at the other end.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// Takes in what the driver says of the host; true where that changed.
    pub fn on_presence(&mut self, connected: bool) -> bool {
        let changed = connected != self.connected;
        if changed {
            self.decoder.clear();
            self.told_decoder.clear();
            // Another host may be there, or another server.
            (self.told, self.asked) = (None, None);
        }
        self.connected = connected;
        self.unread = connected;
        changed
    }

    /// What the host said last of its clock, and how long ago that is.
    #[must_use]
    pub fn told(&self, now: Raw) -> Option<(HostClock, Nanos)> {
        self.told.map(|(clock, at)| (clock, now - at))
    }

    /// Asks for that, where it was not asked lately; `renew` asks in any case. The answer is no
    /// reading of the time.
    pub fn ask_clock(&mut self, now: Raw, renew: bool) {
        let is_due = |at: Raw| renew || now - at >= TOLD_EVERY;
        if self.burst.is_some() || !self.connected || !self.asked.is_none_or(is_due) {
            return;
        }
        if let Some(port) = &self.port {
            self.last_sequence = self.last_sequence.wrapping_add(1);
            self.asked = Some(now);
            let request = Request {
                sequence: self.last_sequence,
                t1: now,
            };
            // A host that reads nothing has nothing to say either.
            let _ = port.write(&request.encode());
        }
    }

    /// When [`TimeChannel::proceed`] must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Raw> {
        self.deadline
    }

    /// Starts a reading of so many exchanges; a burst that is under way already goes on and answers
    /// for both. The outcome comes from [`TimeChannel::proceed`], which must be called next.
    pub fn start(&mut self, exchanges: u8, now: Raw) {
        if self.burst.is_none() {
            self.burst = Some(Burst::new(self.last_sequence, exchanges, self.built, now));
        }
    }

    /// Takes in what the host sent, sends what is due; gives the reading once the burst is over.
    pub fn proceed(&mut self) -> Option<Result<Reading, ReadFailure>> {
        self.receive();
        self.deadline = None;
        let port = match &self.port {
            Some(port) if self.connected => port,
            _ => {
                self.end_burst()?;
                return Some(Err(ReadFailure::Absent));
            }
        };
        let burst = self.burst.as_mut()?;
        loop {
            match burst.next(clocks::raw()) {
                Next::Send(frame) => {
                    // A port with room takes a frame whole. One that doesn't has a host that
                    // reads nothing, and half a frame would only be skipped.
                    if port.write(&frame) != Transfer::Bytes(FRAME_LEN) {
                        self.end_burst();
                        return Some(Err(ReadFailure::Timeout));
                    }
                }
                Next::Wait(until) => {
                    self.deadline = Some(until);
                    return None;
                }
                Next::Done(outcome) => {
                    self.end_burst();
                    return Some(
                        outcome.map(|exchange| place(exchange, Sandwich::tightest(PLACING_READS))),
                    );
                }
            }
        }
    }

    fn end_burst(&mut self) -> Option<()> {
        self.last_sequence = self.burst.take()?.last_sequence();
        Some(())
    }

    fn receive(&mut self) {
        let mut buffer = [0u8; READ_BYTES];
        while self.unread && self.bucket.available(clocks::raw()) >= READ_BYTES {
            let Some(port) = &self.port else { return };
            match port.read(&mut buffer) {
                Transfer::Bytes(count) => {
                    let t4 = clocks::raw();
                    self.bucket.take(count);
                    self.decoder.push(&buffer[..count]);
                    self.told_decoder.push(&buffer[..count]);
                    while let Some(told) = self.told_decoder.next_frame() {
                        self.told = Some((told.clock, t4));
                        self.asked = Some(t4);
                    }
                    while let Some(answer) = self.decoder.next_frame() {
                        if let Some(burst) = &mut self.burst {
                            burst.on_answer(&answer, t4);
                        }
                    }
                }
                Transfer::Wait => self.unread = false,
                Transfer::Disconnected | Transfer::Gone => {
                    self.unread = false;
                    self.connected = false;
                }
            }
        }
    }
}

/// Carries an exchange on to the instant of `local`, at which both guest clocks are known.
fn place(exchange: Exchange, local: Sandwich) -> Reading {
    let elapsed = local.raw() - exchange.raw;
    Reading {
        source: Source::Host,
        method: Method::RoundTrip,
        reference: exchange.reference + elapsed,
        realtime: local.realtime,
        raw: local.raw(),
        bound: exchange.bound + Nanos(local.width().0 / 2) + elapsed.raw_skew(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_carried_on_to_the_present_and_its_bound_grows() {
        let exchange = Exchange {
            raw: Raw(1_000_000),
            reference: Utc(50_000_000),
            bound: Nanos(300),
        };
        let local = Sandwich {
            before: Raw(5_000_000),
            realtime: Utc(53_000_000),
            after: Raw(5_000_100),
        };
        let reading = place(exchange, local);
        assert_eq!(reading.reference, Utc(54_000_050));
        assert_eq!(reading.offset(), Nanos(1_000_050));
        assert_eq!(reading.bound, Nanos(300 + 50 + 2_000));
    }

    #[test]
    fn without_a_host_a_reading_fails_at_once() {
        let mut channel = TimeChannel::new(Utc(0), Raw(0));
        channel.start(8, Raw(0));
        assert_eq!(channel.proceed(), Some(Err(ReadFailure::Absent)));
        assert_eq!(channel.proceed(), None);
        assert_eq!(channel.deadline(), None);
    }
}
