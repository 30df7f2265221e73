//! A machine under experiment: what it is asked, and what it and its PID 1 tell.

use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::record::{EventRecord, Record, Status};
use noonmark_contract::testport::{
    self, Answer, Ask, ErrorPoint, HostTime, Observation, Outcome, Query, Request, Steady, Track,
    Watch,
};
use noonmark_contract::units::{Nanos, Raw, Utc};
use noonmark_qemu::time_server::host_utc;
use noonmark_qemu::{Machine, MachineError, Subscription};

use crate::fault::Plan;
use crate::report::error::{ClockError, MeasuredBy, PRECISE_LIMIT, bound_wanted, default_limit};
use crate::report::exits::Exits;

use super::outcome::{ExperimentError, Progress, SampleError};
use super::repair::RepairRecord;

/// How long PID 1's records may come after the observer's answer. They are on their way by then,
/// so this only passes where there are none.
const RECORDS_DEADLINE: Duration = Duration::from_secs(2);

/// How long load takes to be under way.
pub(crate) const LOAD_WARM_UP: Duration = Duration::from_secs(1);

/// Status records between the first sync and the faults, so that PID 1's idle cost is measured
/// over a whole interval.
const IDLE_RECORDS: u32 = 2;

/// How long an exchange is repeated that is too slow to measure the clock's error: a host that has no
/// quiet moment in that time gives no figure worth judging.
const MEASURE_DEADLINE: Duration = Duration::from_secs(5);

/// At least so many exchanges are made, so that the figure is as good as can be had soon.
const MEASURE_EXCHANGES: u32 = 16;

/// Between two of these.
const MEASURE_PAUSE: Duration = Duration::from_millis(2);

/// What is waited for after most requests.
const ANSWER: &str = "the fault program's answer";

/// The version of what goes over the test port.
const VERSION: u32 = 1;

/// The guest's time, asked for and received at two instants of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) sent: Utc,
    pub(crate) received: Utc,
    pub(crate) raw: Raw,
    pub(crate) realtime: Utc,
    /// How far apart the guest's readings of its two clocks may be.
    pub(crate) width: Nanos,
    /// The host's time at `raw` as the guest's observer read it by ptp_kvm, where it has that.
    pub(crate) host: Option<HostTime>,
}

impl Exchange {
    /// The host's time at `raw`, and how far it may be wrong. The guest answered at some instant
    /// between the question and its receipt, so that the middle is wrong by at most half the round
    /// trip; where the guest has ptp_kvm, that says it far better.
    pub(crate) fn host(&self) -> (Utc, Nanos) {
        match self.host {
            Some(host) => (host.utc, host.bound_ns),
            None => {
                let round_trip = self.received - self.sent;
                let off = Nanos(round_trip.abs().0 / 2 + self.width.0 / 2 + 1);
                (self.sent + Nanos(round_trip.0 / 2), off)
            }
        }
    }

    /// The guest's clock against the host's.
    pub(crate) fn error(&self) -> ClockError {
        let (host, bound_ns) = self.host();
        ClockError {
            error_ns: self.realtime - host,
            bound_ns,
            measured_by: match self.host {
                Some(_) => MeasuredBy::Observer,
                None => MeasuredBy::Host,
            },
        }
    }
}

/// A recording of the clock's error under way, with an instant of the guest's counter and the same
/// instant by this program's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracking {
    raw: Raw,
    at: Instant,
}

impl Tracking {
    /// When, counted from `since`, the guest's counter stood at `raw`.
    fn time(&self, raw: Raw, since: Instant) -> Nanos {
        let ahead = nanos(since.saturating_duration_since(self.at));
        let behind = nanos(self.at.saturating_duration_since(since));
        (raw - self.raw) - ahead + behind
    }
}

/// The machine and its lines to this program.
pub(crate) struct Session<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) plan: &'a Plan,
    /// How long a clock is watched after a fault.
    pub(crate) recovery: Duration,
    /// What the clock's error is held to where the plan's limits say nothing.
    pub(crate) error_limit: Nanos,
    /// VM exits until the first sync, where KVM counts them.
    pub(crate) boot_exits: Option<Exits>,
    /// Whether PID 1 keeps the clock, and so tells of each repair.
    kept_by_init: bool,
    records: Subscription,
    requests: u64,
}

impl<'a> Session<'a> {
    pub(crate) fn new(machine: &'a mut Machine, plan: &'a Plan) -> Self {
        Self {
            records: machine.subscribe(),
            recovery: machine.timeouts().recovery(),
            machine,
            error_limit: plan.tolerance,
            plan,
            boot_exits: None,
            kept_by_init: true,
            requests: 0,
        }
    }

    /// With a peer in the guest, whose clock is watched for `recovery` after a fault. Requests are
    /// counted from `requests` on. A peer follows ptp_kvm, so that it is held to what that allows.
    pub(crate) fn with_peer(
        machine: &'a mut Machine,
        plan: &'a Plan,
        recovery: Duration,
        requests: u64,
    ) -> Self {
        Self {
            recovery,
            error_limit: PRECISE_LIMIT,
            kept_by_init: false,
            requests,
            ..Self::new(machine, plan)
        }
    }

    /// Takes from a status record what the clock's error is held to.
    pub(crate) fn hold_to(&mut self, status: &Status) {
        let source = status.source.as_ref();
        self.error_limit = default_limit(source, status.method, self.plan.tolerance);
    }

    /// With what bound the clock's error is to be measured, to be judged by the strictest limit.
    pub(crate) fn wanted_bound(&self) -> Nanos {
        let strictest = self.plan.error_limit.unwrap_or(self.error_limit);
        bound_wanted(strictest.min(self.error_limit))
    }

    /// How many requests the fault program has had.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Forgets a machine that another has taken the place of.
    pub(crate) fn start_over(&mut self) {
        self.records = self.machine.subscribe();
    }

    /// Waits for the first sync, the fault program, and a quiet moment.
    pub(crate) fn wait_ready(
        &mut self,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Status, ExperimentError> {
        let mut status = self
            .machine
            .wait_synced(&self.records, |record| progress(Progress::Booting(record)))?;
        self.boot_exits = Exits::of(self.machine.pid());
        progress(Progress::Synced(&status));
        let deadline = Instant::now() + self.machine.timeouts().sync();
        let awaited = "the fault program's greeting";
        while self.machine.test_answer(awaited, deadline)?.outcome != Outcome::Ready {}
        for _ in 0..IDLE_RECORDS {
            status = self.next_status(deadline)?;
        }
        Ok(status)
    }

    pub(crate) fn next_status(&mut self, deadline: Instant) -> Result<Status, MachineError> {
        loop {
            let awaited = "the next status record";
            match self.machine.record(&self.records, awaited, deadline)? {
                Record::Status(status) => return Ok(status),
                Record::Event(_) => {}
            }
        }
    }

    /// Forgets the records that have come so far: they belong to no sample.
    pub(crate) fn forget_records(&mut self) {
        while self.records.next(Instant::now()).is_ok() {}
    }

    /// An event that has come, if there is one.
    pub(crate) fn event(&mut self) -> Option<EventRecord> {
        while let Ok(record) = self.records.next(Instant::now()) {
            if let Record::Event(event) = record {
                return Some(event);
            }
        }
        None
    }

    /// PID 1's records of the disruption just done; nothing where it does not keep the clock.
    pub(crate) fn repair_record(&mut self) -> Result<RepairRecord, MachineError> {
        let mut repair = RepairRecord::default();
        if !self.kept_by_init {
            return Ok(repair);
        }
        let deadline = Instant::now() + RECORDS_DEADLINE;
        while !repair.is_complete() {
            let record = match self
                .machine
                .record(&self.records, "PID 1's record", deadline)
            {
                // That there is no record is a finding, not a failure.
                Err(MachineError::Deadline { .. }) => break,
                other => other?,
            };
            if let Record::Event(event) = record {
                repair.take(&event.event);
            }
        }
        Ok(repair)
    }

    /// Has the fault program disturb the clock and watch it for `settle` once it is right.
    pub(crate) fn observe(
        &mut self,
        fault: testport::Fault,
        settle: Nanos,
    ) -> Result<Observation, SampleError> {
        self.requests += 1;
        self.machine.send_test(&Request {
            v: VERSION,
            id: self.requests,
            fault,
            tolerance_ns: self.plan.tolerance,
            error_limit_ns: self.error_limit,
            settle_ns: settle,
            deadline_ms: millis(self.recovery),
        })?;
        match self.answer(ANSWER, self.recovery)? {
            Outcome::Observed(observation) => Ok(observation),
            other => Err(unexpected(other)),
        }
    }

    /// Has the fault program compare the undisturbed clock with ptp_kvm's for `span`.
    pub(crate) fn watch(&mut self, span: Duration, every: Duration) -> Result<Steady, SampleError> {
        self.requests += 1;
        self.machine.send_test(&Request {
            v: VERSION,
            id: self.requests,
            fault: testport::Fault::Watch(Watch {
                span_ms: millis(span),
                every_ms: millis(every),
            }),
            tolerance_ns: Nanos::ZERO,
            error_limit_ns: Nanos::ZERO,
            settle_ns: Nanos::ZERO,
            deadline_ms: 0,
        })?;
        match self.answer("what the clock's observer has seen", span)? {
            Outcome::Steady(seen) => Ok(seen),
            other => Err(unexpected(other)),
        }
    }

    /// Asks the fault program for something that it does at once.
    pub(crate) fn ask(&mut self, ask: Ask) -> Result<Outcome, SampleError> {
        self.requests += 1;
        self.machine.send_query(&Query {
            v: VERSION,
            id: self.requests,
            ask,
        })?;
        self.answer(ANSWER, Duration::ZERO)
    }

    /// Gives the fault program an order.
    pub(crate) fn order(&mut self, ask: Ask) -> Result<(), SampleError> {
        match self.ask(ask)? {
            Outcome::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Ends a vigil.
    pub(crate) fn end_vigil(&mut self) -> Result<testport::Vigil, SampleError> {
        match self.ask(Ask::EndVigil)? {
            Outcome::Kept(vigil) => Ok(vigil),
            other => Err(unexpected(other)),
        }
    }

    /// What the guest's clocks say, between two instants of the host's.
    pub(crate) fn exchange(&mut self) -> Result<Exchange, SampleError> {
        let sent = host_utc();
        let outcome = self.ask(Ask::Time)?;
        let received = host_utc();
        match outcome {
            Outcome::Time(clocks) => Ok(Exchange {
                sent,
                received,
                raw: clocks.raw,
                realtime: clocks.realtime,
                width: clocks.width_ns,
                host: clocks.host,
            }),
            other => Err(unexpected(other)),
        }
    }

    /// How far the guest's clock is from the host's, to `bound` where that can be had: an exchange that
    /// was too slow is repeated for as long as [`MEASURE_DEADLINE`]; the tightest counts.
    pub(crate) fn host_error(&mut self, bound: Nanos) -> Result<ClockError, SampleError> {
        let deadline = Instant::now() + MEASURE_DEADLINE;
        let mut best = self.exchange()?.error();
        let mut taken = 1;
        let by_host = best.measured_by == MeasuredBy::Host;
        while (best.bound_ns > bound && Instant::now() < deadline)
            || (by_host && taken < MEASURE_EXCHANGES)
        {
            thread::sleep(MEASURE_PAUSE);
            let next = self.exchange()?.error();
            taken += 1;
            if next.bound_ns < best.bound_ns {
                best = next;
            }
        }
        Ok(best)
    }

    /// Has the observer record the clock's error against the host's, as ptp_kvm says it, at this pace
    /// until [`Session::end_track`]; at most [`noonmark_contract::testport::TRACK_POINTS_MAX`]
    /// readings. Refused in a guest without ptp_kvm.
    pub(crate) fn begin_track(&mut self, every: Duration) -> Result<Tracking, SampleError> {
        let every_ms = u32::try_from(millis(every)).unwrap_or(u32::MAX);
        self.order(Ask::Track { every_ms })?;
        // Tied by the host's clock, which the guest has read at its end: to far less than the half of
        // a round trip, in which a reading before a fault would pass for one after it.
        let exchange = self.exchange()?;
        let (now, utc) = (Instant::now(), host_utc());
        let (host, _) = exchange.host();
        let passed = Duration::from_nanos(u64::try_from((utc - host).0).unwrap_or(0));
        Ok(Tracking {
            raw: exchange.raw,
            at: now.checked_sub(passed).unwrap_or(now),
        })
    }

    /// What was recorded, with each reading's time counted from `since`, and how many are missing.
    pub(crate) fn end_track(
        &mut self,
        tracking: Tracking,
        since: Instant,
    ) -> Result<(Vec<ErrorPoint>, u32), SampleError> {
        let track = match self.ask(Ask::EndTrack)? {
            Outcome::Tracked(track) => track,
            other => return Err(unexpected(other)),
        };
        let Track {
            began,
            points,
            failed,
            lost,
        } = track;
        let shifted = points.into_iter().map(|point| ErrorPoint {
            at: tracking.time(began + point.at, since),
            ..point
        });
        Ok((shifted.collect(), failed.saturating_add(lost)))
    }

    /// The answer to the last request, which takes `at_least` so long.
    fn answer(
        &mut self,
        awaited: &'static str,
        at_least: Duration,
    ) -> Result<Outcome, SampleError> {
        let deadline = Instant::now() + at_least + self.machine.timeouts().answer();
        let Answer { id, outcome, .. } = self.machine.test_answer(awaited, deadline)?;
        if id != self.requests {
            return Err(ExperimentError::WrongAnswer {
                expected: self.requests,
                got: id,
            }
            .into());
        }
        Ok(outcome)
    }
}

/// A span of the standard library, as far as it can be counted.
pub(crate) fn nanos(span: Duration) -> Nanos {
    Nanos(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An answer that does not fit what was asked.
pub(crate) fn unexpected(outcome: Outcome) -> SampleError {
    SampleError::Refused(match outcome {
        Outcome::Error(why) => why,
        Outcome::Ready => "the fault program started over in the middle of it".to_owned(),
        other => format!("the fault program answered something else: {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_s_time_counts_from_the_disturbance_whichever_comes_first() {
        let at = Instant::now();
        let tracking = Tracking {
            raw: Raw(7_000),
            at,
        };
        let disturbed = at + Duration::from_nanos(500);
        assert_eq!(tracking.time(Raw(7_600), disturbed), Nanos(100));
        assert_eq!(tracking.time(Raw(7_400), disturbed), Nanos(-100));
        let earlier = Tracking {
            at: disturbed,
            ..tracking
        };
        assert_eq!(earlier.time(Raw(7_000), at), Nanos(500));
    }
}
